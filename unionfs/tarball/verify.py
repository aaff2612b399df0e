"""A blob is what its descriptor says, or it is not used: digest and size, checked at the stream."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO

from unionfs.digest import Digest
from unionfs.errors import CorruptError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_DRAIN = 1 << 20


class BlobMismatchError(CorruptError):
    """A blob's bytes are not those that its descriptor promises."""


class VerifyingReader(io.RawIOBase):
    """Reads *size* bytes of *raw*, never more, and checks them against *digest*.

    That *raw* ends there too is for the caller to see (its file's or archive member's size): here
    it may be a part of something larger. Closing it does not close *raw*.
    """

    def __init__(self, raw: BinaryIO, digest: Digest, size: int) -> None:
        """Raises BlobMismatchError for a negative size."""
        super().__init__()
        if size < 0:
            raise BlobMismatchError(f"blob {digest} is described with a negative size ({size})")
        self._raw = raw
        self._digest = digest
        self._size = size
        self._left = size
        self._hash = digest.hasher()

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, count: int | None = -1) -> bytes:
        """Return up to *count* bytes, empty at the end. Raises BlobMismatchError if it is early."""
        wanted = self._left if count is None or count < 0 else min(count, self._left)
        if not wanted:
            return b""
        data = self._raw.read(wanted)
        if not data:
            raise BlobMismatchError(
                f"blob {self._digest} ends after {self._size - self._left} of {self._size} bytes"
            )
        self._hash.update(data)
        self._left -= len(data)
        return data

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill *buffer* with what ``read`` returns; return the count."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def finish(self) -> None:
        """Read what is left and compare. Raises BlobMismatchError."""
        while self.read(_DRAIN):
            pass
        if not self._digest.matches(self._hash):
            raise BlobMismatchError(
                f"blob {self._digest} has the digest {self._hash.name}:{self._hash.hexdigest()}"
            )
