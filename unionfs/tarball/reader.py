"""The entries of a tar stream, each with its extended headers applied."""

from __future__ import annotations

import os
from collections.abc import Iterator

from unionfs.tarball import pax, sparse
from unionfs.tarball.header import (
    BLOCK,
    GNU_LONG_LINK,
    GNU_LONG_NAME,
    GNU_SPARSE,
    PAX_GLOBAL,
    PAX_LOCAL,
    REGULAR,
    ZERO_BLOCK,
    Entry,
    TarFormatError,
    check_sum,
)
from unionfs.tarball.limits import Limits
from unionfs.tarball.stream import TarStream

_EXTENSIONS = frozenset((PAX_LOCAL, PAX_GLOBAL, GNU_LONG_NAME, GNU_LONG_LINK))


class TarReader:
    """Iterates over *stream*; after the last entry ``ended`` tells if the end mark was there.

    The data of an entry is asked for with ``copy_data`` before the next entry is, or skipped.
    """

    def __init__(self, stream: TarStream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self.ended = False
        self._forget_extensions()

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries. Raises TarFormatError and LimitError."""
        stream = self._stream
        while True:
            block = stream.take(BLOCK)
            if len(block) != BLOCK or block == ZERO_BLOCK:
                self._end(block)
                return
            if not check_sum(block):
                at = stream.offset - BLOCK
                raise TarFormatError(f"bad tar header at byte {at}" if at else "not a tar archive")
            entry = Entry(block)
            if entry.kind in _EXTENSIONS:
                self._extension(entry)
                continue
            size = self._complete(entry, block)
            end = stream.offset + entry.size
            yield entry
            stream.skip(end - stream.offset)
            stream.take(-size % BLOCK)  # missing after the last entry, as umoci insert leaves it

    def copy_data(self, entry: Entry, fd: int) -> None:
        """Write the content of *entry* to the empty file *fd*, with its holes. Raises OSError."""
        if entry.sparse is None:
            self._copy(entry, fd, 0, entry.size)
            return
        for offset, length in entry.sparse:
            os.lseek(fd, offset, os.SEEK_SET)
            self._copy(entry, fd, offset, length)
        os.ftruncate(fd, entry.real_size)

    def _copy(self, entry: Entry, fd: int, offset: int, length: int) -> None:
        crc = self._stream.copy_to(fd, length)
        if self._stream.recorder is not None and length:
            self._stream.recorder.content(entry.name, offset, length, crc)

    def _end(self, block: bytes) -> None:
        if block and block != ZERO_BLOCK:
            raise TarFormatError(f"tar ends in the middle of a header ({len(block)} bytes)")
        if self._records or self._long_name is not None or self._long_link is not None:
            raise TarFormatError("tar ends after an extended header, without its entry")
        self.ended = bool(block)

    def _forget_extensions(self) -> None:
        self._records: pax.Records = []
        self._long_name: bytes | None = None
        self._long_link: bytes | None = None
        self._spent = 0

    def _extension(self, entry: Entry) -> None:
        """Read an extended header for the entry that follows."""
        self._spend(entry.size)
        data = self._stream.exactly(entry.size)
        self._stream.skip(-entry.size % BLOCK)
        if entry.kind == PAX_LOCAL:
            self._records += pax.parse_records(data)
        elif entry.kind == PAX_GLOBAL:
            # Ignored, as every image tool in Go does: git's comment is what it holds in practice.
            self._spent -= entry.size
            pax.parse_records(data)
        elif entry.kind == GNU_LONG_NAME:
            self._long_name = _without_nul(data)
        else:
            self._long_link = _without_nul(data)

    def _spend(self, count: int) -> None:
        self._spent += count
        if self._spent > self._limits.max_metadata:
            raise self._limits.exceeded("max_metadata", "tar entry with too long a header")

    def _complete(self, entry: Entry, block: bytes) -> int:
        """Apply the extended headers to *entry*; return the data's size before a sparse map."""
        if self._long_name is not None:
            entry.name = self._long_name
        if self._long_link is not None:
            entry.link = self._long_link
        if self._records:
            pax.apply_records(entry, self._records)
            size = pax.pax_size(self._records)
            if size is not None and entry.kind in (REGULAR, GNU_SPARSE):
                entry.size = entry.real_size = size
        size = entry.size
        if entry.kind == GNU_SPARSE or (self._records and entry.kind == REGULAR):
            self._read_sparse(entry, block)
        self._forget_extensions()
        return size

    def _read_sparse(self, entry: Entry, block: bytes) -> None:
        if entry.kind == GNU_SPARSE:
            entry.real_size, entry.sparse = sparse.old_gnu_map(block, self._map_block)
            entry.kind = REGULAR
        else:
            described = sparse.pax_map(self._records)
            if described is None:
                return
            entry.real_size, entry.sparse = described
            entry.name = sparse.pax_name(self._records) or entry.name
            if entry.sparse is None:
                start = self._stream.offset
                entry.sparse = sparse.leading_map(self._map_block)
                entry.size -= self._stream.offset - start
        sparse.check(entry)

    def _map_block(self) -> bytes:
        self._spend(BLOCK)
        return self._stream.exactly(BLOCK)


def _without_nul(data: bytes) -> bytes:
    """Return a GNU long name without the NUL that ends it. Raises TarFormatError."""
    name = data.rstrip(b"\0")
    if b"\0" in name:
        raise TarFormatError(f"tar entry with a NUL byte in its name: {name[:80]!r}")
    return name
