"""Layers that cost more than they should: limits by name, and memory that stays small."""

from __future__ import annotations

import functools
import gzip
import io
import subprocess
import sys
import textwrap

import pytest
import zstandard

from tests.support import tars
from tests.support.layers import FLAVOUR, apply, directory
from unionfs.syscalls.mount import mount, umount
from unionfs.tarball.apply import apply_layer
from unionfs.tarball.limits import LimitError, Limits

SIZE = 128 << 20
_DEEP_ACL = {"system.posix_acl_default": b"x" * 3000}


@pytest.mark.parametrize(
    ("limit", "value", "members"),
    [
        ("max_bytes", 4096, [tars.file("a", b"x" * 4000)]),
        ("max_bytes", 1 << 20, [tars.sparse_pax("a", (1 << 20) + 1, [], "1.0")]),
        ("max_bytes", 1 << 20, [tars.sparse_pax("a", 10**29, [], "1.0")]),
        ("max_bytes", 1 << 20, [tars.header("a", b"0", size=tars.base256(2**90, 12))]),
        ("max_entries", 3, [tars.file(f"f{n}") for n in range(4)]),
        ("max_entries", 3, [tars.file("a/b/c/d")]),
        ("max_entries", 3, [tars.whiteout(f"w{n}") for n in range(4)]),
        ("max_path", 10, [tars.file("12345/67890")]),
        ("max_metadata", 1000, [tars.file("a", xattrs={"user.x": b"x" * 1000})]),
        ("max_metadata", 1000, [tars.gnu_long("x" * 1001) + tars.file("a")]),
        ("max_metadata", 1000, [tars.pax({"a": "x" * 400}) * 3 + tars.file("a")]),
        ("max_metadata", 1000, [tars.pax({"a": "x" * 1001}, b"g")]),
        ("max_metadata", 1000, [tars.sparse_old("s", 9**9, [(n, b"x") for n in range(0, 200, 2)])]),
        ("max_metadata", 1000, [tars.sparse_pax("s", 9**9, [(n, b"") for n in range(900)], "1.0")]),
        ("max_metadata", 1000, [tars.header("x", b"x", size=tars.base256(2**80, 12))]),
        ("max_kept", 5000, [tars.dir_(f"d{n}", xattrs=_DEEP_ACL) for n in range(2)]),
        ("max_kept", 5000, [tars.file(f"{n}" * 100 + "/f") for n in range(10, 40)]),
    ],
)
def test_limits_say_their_name_and_how_to_raise_them(tmp_path, limit, value, members):
    with pytest.raises(LimitError, match=rf"{limit}={value} .*--limit {limit}=N"):
        apply(tmp_path, tars.tar(*members), Limits(**{limit: value}))


def test_limits_count_padding_after_the_end(tmp_path):
    with pytest.raises(LimitError, match="max_bytes"):
        apply(tmp_path, tars.tar(end=bytes(1 << 20)), Limits(max_bytes=1 << 19))


_MEASURE = """
    import io, os, resource, sys
    sys.path[:0] = {path!r}
    from unionfs.errors import UnionfsError
    from unionfs.tarball.apply import apply_layer
    from unionfs.tarball.compression import open_decompressed
    from unionfs.tarball.limits import Limits
    from tests.support.layers import FLAVOUR
    fd = os.open({dest!r}, os.O_RDONLY)
    def peak():
        with open("/proc/self/status") as status:
            line = next(line for line in status if line.startswith("VmHWM"))
        return int(line.split()[1]) >> 10
    before = peak()
    try:
        with open({blob!r}, "rb") as blob:
            apply_layer(open_decompressed(blob), fd, flavour=FLAVOUR, limits=Limits({limits}))
        print("applied", end=" ")
    except UnionfsError as error:
        print(type(error).__name__, end=" ")
    print(peak() - before)
"""


def outcome(tmp_path, blob: bytes, limits: str = "") -> tuple[str, int]:
    """Apply *blob* in a process of its own; return what it said and the MiB that it grew by."""
    (tmp_path / "layer").mkdir()
    (tmp_path / "blob").write_bytes(blob)
    program = textwrap.dedent(_MEASURE).format(
        path=sys.path, dest=str(tmp_path / "layer"), blob=str(tmp_path / "blob"), limits=limits
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    word, grown = done.stdout.split()
    return word, int(grown)


@functools.cache
def zeros(kind: str) -> bytes:
    """A compressed stream of 128 MiB of zeros, made without holding them."""
    out = io.BytesIO()
    packer = gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) if kind == "gzip" else None
    with packer or zstandard.ZstdCompressor(1).stream_writer(out, closefd=False) as writer:
        for _ in range(SIZE >> 20):
            writer.write(bytes(1 << 20))
    return out.getvalue()


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_bomb_of_zeros_is_written_in_bounded_memory(tmp_path, kind):
    head = tars.header("z", b"0", size=SIZE)
    pack = gzip.compress if kind == "gzip" else zstandard.compress
    word, grown = outcome(tmp_path, pack(head) + zeros(kind) + pack(tars.END))
    assert word == "applied"
    assert (tmp_path / "layer" / "z").stat().st_size == SIZE
    assert grown < 48


def test_a_bomb_is_stopped_at_the_limit(tmp_path):
    blob = gzip.compress(tars.header("z", b"0", size=1 << 40)) + zeros("gzip")
    word, grown = outcome(tmp_path, blob, "max_bytes=16 << 20")
    assert word == "LimitError"
    assert grown < 48
    assert sum(f.stat().st_size for f in (tmp_path / "layer").iterdir()) <= 16 << 20


@pytest.mark.parametrize("kind", [b"x", b"L", b"K", b"g"])
def test_a_huge_extended_header_is_not_read_into_memory(tmp_path, kind):
    blob = gzip.compress(tars.header("h", kind, size=SIZE)) + zeros("gzip")
    word, grown = outcome(tmp_path, blob)
    assert word == "LimitError"
    assert grown < 48


def test_a_zstd_frame_that_wants_a_huge_window(tmp_path):
    parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    word, grown = outcome(tmp_path, packer.compress(bytes(1 << 20)) + packer.flush())
    assert word == "DecompressionError"
    assert grown < 48


def test_many_directories_cost_little_memory(tmp_path):
    members = b"".join(tars.dir_(f"d{n % 50}/{n}") for n in range(5_000))
    word, grown = outcome(tmp_path, gzip.compress(tars.tar(members)))
    assert word == "applied"
    assert grown < 32


@pytest.mark.needs_root
def test_a_full_disk_is_an_os_error(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount(b"none", bytes(disk), b"tmpfs", 0, b"size=1m")
    try:
        with directory(disk) as fd, pytest.raises(OSError, match="No space left"):
            apply_layer(
                io.BytesIO(tars.tar(tars.file("big", bytes(2 << 20)))),
                fd,
                flavour=FLAVOUR,
                limits=Limits(),
            )
    finally:
        umount(bytes(disk))
