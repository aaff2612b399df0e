"""Requests that pyfuse3 does not know, as the hook brings them, without FUSE."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.worlds import ROOT, World
from tests.unit.fuse.conftest import Build
from unionfs.fuse import carried, guard, native

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("inline")]
IOCTL, FALLOCATE, LSEEK, COPY = 39, 43, 46, 47
MIB = 1 << 20
Ask = Callable[[World, bytes, int, bytes], bytes]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Send a request about a path as the hook does: as a GETXATTR, with the real one beside it."""

    def send(world: World, path: bytes, opcode: int, body: bytes) -> bytes:
        ino = world.lookup(path)
        monkeypatch.setattr(native, "carried", lambda: (opcode, body))
        return bytes(world.do("getxattr", ino, native.CARRIER, ROOT))

    return send


def _fallocate(length: int, mode: int = 0) -> bytes:
    return struct.pack("=QQQII", 0, 0, length, mode, 0)


@pytest.mark.parametrize("length", [4096, 2 * MIB], ids=["at once", "in a thread"])
def test_allocating_makes_the_copy_larger(lower: Path, build: Build, ask: Ask, length: int) -> None:
    (lower / "file").write_bytes(b"content")
    world = build()
    assert ask(world, b"file", FALLOCATE, _fallocate(length)) == b""
    assert world.getattr(b"file").st_size == length
    assert world.read(b"file")[:7] == b"content"
    assert (lower / "file").read_bytes() == b"content"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_what_the_filesystem_refuses_reaches_the_caller(
    lower: Path, build: Build, ask: Ask, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (lower / "file").write_bytes(b"content")
    world = build()

    def full(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(carried, "fallocate", full)
    with pytest.raises(OSError, match="getxattr") as caught:
        ask(world, b"file", FALLOCATE, _fallocate(4096))
    assert caught.value.errno == number
    assert world.read(b"file") == b"content"


def test_a_read_only_mount_finds_holes_and_allocates_nothing(
    lower: Path, build: Build, ask: Ask
) -> None:
    with open(lower / "file", "wb") as file:
        file.seek(MIB)
        file.write(b"data")
    world = build(read_only=True)
    seek_data = struct.pack("=QQII", 0, 0, os.SEEK_DATA, 0)
    assert ask(world, b"file", LSEEK, seek_data) == struct.pack("=Q", MIB)
    with pytest.raises(OSError, match="getxattr") as caught:
        ask(world, b"file", FALLOCATE, _fallocate(4096))
    assert caught.value.errno == errno.EROFS


def test_seeking_beyond_the_end(lower: Path, build: Build, ask: Ask) -> None:
    (lower / "file").write_bytes(b"content")
    world = build()
    for whence in (os.SEEK_DATA, os.SEEK_HOLE):
        with pytest.raises(OSError, match="getxattr") as caught:
            ask(world, b"file", LSEEK, struct.pack("=QQII", 0, 7, whence, 0))
        assert caught.value.errno == errno.ENXIO


@pytest.mark.parametrize("size", [1000, 3 * MIB], ids=["at once", "in a thread"])
def test_copying_a_range(lower: Path, build: Build, ask: Ask, size: int) -> None:
    content = os.urandom(size)
    (lower / "source").write_bytes(content)
    (lower / "target").write_bytes(b"lower")
    world = build()
    number = world.lookup(b"target")
    body = struct.pack("=QQQQQQQ", 0, 0, number, 0, 5, 1 << 40, 0)
    done, _ = struct.unpack("=II", ask(world, b"source", COPY, body))
    assert done == size
    assert world.getattr(b"target").st_size == 5 + size
    assert not os.path.exists(world.upperdir + b"/source")
    with open(world.upperdir + b"/target", "rb") as file:
        assert file.read() == b"lower" + content
    assert (lower / "target").read_bytes() == b"lower"


def test_other_ioctls_are_no_business_of_ours(lower: Path, build: Build, ask: Ask) -> None:
    (lower / "file").touch()
    world = build()
    with pytest.raises(OSError, match="getxattr") as caught:
        ask(world, b"file", IOCTL, struct.pack("=QIIQII", 0, 0, 0x5401, 0, 0, 60))
    assert caught.value.errno == errno.ENOTTY
    assert not os.path.exists(world.upperdir + b"/file")


def test_a_message_that_is_too_short_is_an_error_and_no_end(
    lower: Path, build: Build, ask: Ask
) -> None:
    (lower / "file").touch()
    world = build()
    before = guard.unforeseen
    with pytest.raises(OSError, match="getxattr") as caught:
        ask(world, b"file", LSEEK, b"short")
    assert caught.value.errno == errno.EIO
    assert guard.unforeseen == before + 1


def test_two_files_are_open_at_a_time_however_few_may_be(lower: Path, build: Build) -> None:
    """Making room for the second must not close the first's descriptor (the oldest goes)."""
    names = [b"f%d" % number for number in range(4)]
    for name in names:
        (lower / name.decode()).write_bytes(name)
    world = build()
    world.ops.serve_by_node(files=True)
    files = world.ops.files
    files._limit = 2
    nodes = [world.node(name) for name in names]
    world.setattr(names[0], mode=0o600)
    files.data(nodes[0], write=True)
    for source in nodes:
        for _ in range(2):
            fd, target = files.pair(source, nodes[0])
            os.pwrite(target, b"F", 0)
            assert os.pread(fd, 2, 0)[1:] == source.name[1:]
            files.data(nodes[1], write=False)
