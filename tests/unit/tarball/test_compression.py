"""What is read is what was compressed, whoever compressed it, or an error."""

from __future__ import annotations

import gzip
import io
import os
from functools import partial

import pytest
import zstandard

from unionfs.tarball.compression import DecompressionError, compress, open_decompressed

DATA = os.urandom(300_000) + bytes(700_000)
# Tests are named after their data, and every process of a run has to find the same names.
packed = partial(gzip.compress, mtime=0)
SKIPPABLE = b"\x5a\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"12345"


def out_of(blob: bytes) -> bytes:
    return open_decompressed(io.BytesIO(blob)).read()


@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
def test_round_trip_is_deterministic_and_leaves_the_file_open(kind):
    blobs = []
    for _ in range(2):
        out = io.BytesIO()
        writer = compress(kind, out)
        writer.write(DATA[:1000])
        writer.write(DATA[1000:])
        writer.close()
        blobs.append(out.getvalue())
    assert blobs[0] == blobs[1]
    assert out_of(blobs[0]) == DATA
    assert (len(blobs[0]) < 400_000) == (kind != "none")


@pytest.mark.parametrize("blob", [b"", b"a", b"abc", b"plain text"])
def test_short_and_plain_input(blob):
    assert out_of(blob) == blob


@pytest.mark.parametrize(
    "blob",
    [
        packed(b"one") + packed(b"two") * 3,
        packed(b"one") + bytes(200_000),
        packed(b"one") + bytes(130_000) + packed(b"two"),
        packed(b"") * 5000 + packed(b"last"),
    ],
)
def test_gzip_members_and_padding(blob):
    assert out_of(blob) == gzip.decompress(blob)


def test_zstd_frames_and_skippable_ones():
    frame = zstandard.compress(b"one")
    assert (
        out_of(SKIPPABLE + frame + SKIPPABLE + zstandard.compress(b"two") + SKIPPABLE) == b"onetwo"
    )


@pytest.mark.parametrize("pack", [packed, zstandard.compress, bytes])
@pytest.mark.parametrize("step", [1, 1000, 1 << 17, 1 << 30])
def test_reads_return_no_more_than_asked(pack, step):
    reader = open_decompressed(io.BytesIO(pack(DATA[290_000:310_000])))
    pieces = []
    while piece := reader.read(step):
        assert len(piece) <= step
        pieces.append(piece)
    assert b"".join(pieces) == DATA[290_000:310_000]


def test_readinto():
    buffer = bytearray(10)
    assert open_decompressed(io.BytesIO(packed(b"abc"))).readinto(buffer) == 3
    assert buffer[:3] == b"abc"


DAMAGED = packed(DATA)
FLIPPED = DAMAGED[:150_000] + bytes((DAMAGED[150_000] ^ 1,)) + DAMAGED[150_001:]
ZSTD = zstandard.compress(DATA)


@pytest.mark.parametrize(
    ("blob", "match"),
    [
        (DAMAGED[:-1], "ends too early"),
        (DAMAGED[: len(DAMAGED) // 2], "ends too early"),
        (DAMAGED[:5], "ends too early"),
        (FLIPPED, "not valid gzip"),
        (DAMAGED + b"garbage", "something else after"),
        (DAMAGED + bytes(9) + b"garbage", "something else after"),
        (DAMAGED + b"\x1fx", "not valid gzip|ends too early"),
        (b"\x1f\x8b\x08garbage follows here", "not valid gzip"),
        (ZSTD + b"garbage", "not valid zstd"),
        (ZSTD[:4] + b"\xff" * 100, "not valid zstd"),
    ],
)
def test_damage(blob, match):
    with pytest.raises(DecompressionError, match=match):
        out_of(blob)


def test_everything_of_the_source_is_read():
    for blob in (packed(DATA) + bytes(1000), ZSTD + SKIPPABLE * 10, DATA):
        source = io.BytesIO(blob)
        open_decompressed(source).read()
        assert source.read() == b""
        assert not source.closed
