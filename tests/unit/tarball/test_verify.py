"""Blobs whose bytes are not what their descriptor says."""

from __future__ import annotations

import hashlib
import io

import pytest

from unionfs.digest import Digest
from unionfs.tarball.verify import BlobMismatchError, VerifyingReader

DATA = b"content" * 1000


def reader(data: bytes, size: int = len(DATA), digest: Digest | None = None) -> VerifyingReader:
    return VerifyingReader(io.BytesIO(data), digest or Digest.of(DATA), size)


def test_good_blobs():
    whole = reader(DATA)
    assert whole.read() == DATA
    assert whole.read(10) == b""
    whole.finish()
    wanted = Digest("sha512", hashlib.sha512(DATA).hexdigest())
    other = reader(DATA, digest=wanted)
    assert other.read(3) == b"con"
    other.finish()


def test_finish_reads_what_nobody_asked_for():
    reader(DATA).finish()
    with pytest.raises(BlobMismatchError, match="has the digest"):
        reader(b"x" * len(DATA)).finish()


def test_nothing_beyond_the_size_is_read():
    source = io.BytesIO(DATA + b"next")
    blob = VerifyingReader(source, Digest.of(DATA), len(DATA))
    assert blob.read(1 << 20) == DATA
    blob.finish()
    assert source.read() == b"next"


@pytest.mark.parametrize("data", [b"", DATA[:-1]])
def test_short_blobs(data):
    with pytest.raises(BlobMismatchError, match=f"ends after {len(data)} of {len(DATA)} bytes"):
        reader(data).finish()


def test_longer_blobs_do_not_match():
    with pytest.raises(BlobMismatchError, match="has the digest"):
        reader(DATA, len(DATA) - 1).finish()


def test_negative_sizes():
    with pytest.raises(BlobMismatchError, match="negative size"):
        reader(DATA, -1)


def test_readinto():
    buffer = bytearray(10)
    assert reader(DATA).readinto(buffer) == 10
    assert buffer == DATA[:10]
