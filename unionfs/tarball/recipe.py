"""How a layer's tar was written, so that the same bytes can be made again from the layer.

Between headers, padding and order on one side and the content of files on the other, only the
first is written down; the second is in the layer's directory. (tar-split does the same for
containers/storage.) The digest of what comes out tells whether both are as they were.

On disk: one zstd frame of ``MAGIC`` and records, numbers as LEB128::

    0 LENGTH BYTES                     these bytes
    1 LENGTH NAME OFFSET LENGTH        these bytes of the layer's file NAME (as its header has it)
    2 LENGTH NAME OFFSET LENGTH CRC    the same with their CRC-32 (four bytes, the lowest first)

The sums tell which file it is whose content changed; whether one did is told by the tar's digest.
Recipes with records of kind 1 were written before there were any.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple, cast

import zstandard

from unionfs.digest import Digest
from unionfs.errors import CorruptError
from unionfs.syscalls.at import open_beneath
from unionfs.tarball.limits import Limits
from unionfs.tarball.names import components
from unionfs.tarball.writer import HashingWriter

MAGIC = b"unionfs tar recipe 1\n"
LEAST, SHARE = 64 << 10, 50  # a recipe has at most LEAST bytes or one SHAREth of its tar
_EARLY = 1 << 20  # bytes that it may be longer while the tar is being read
_BUFFER = 64 << 10
_CHUNK = 1 << 20
_RAW, _CONTENT, _SUMMED = 0, 1, 2
_CRC_SIZE = 4
_LEVEL = 3
_LIMITS = Limits()
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class RecipeError(CorruptError):
    """A recipe is damaged, or the layer no longer has what it needs."""


class Recorder:
    """Writes the recipe of a tar, which is read in pieces, to the empty file *out*."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = zstandard.ZstdCompressor(_LEVEL).stream_writer(out, closefd=False)
        self._records = bytearray(MAGIC)
        self._raw = bytearray()
        self._covered = 0  # bytes of the tar
        self._whole = True

    def raw(self, data: bytes) -> None:
        """Note that the tar has *data* next. Raises OSError."""
        self._covered += len(data)
        if self._whole:
            self._raw += data
            if len(self._raw) > _BUFFER:
                self._flush()

    def content(self, name: bytes, offset: int, length: int, crc: int) -> None:
        """Note that the tar has *length* bytes at *offset* of the file *name* next.

        *crc* is their CRC-32.
        """
        self._covered += length
        if self._whole:
            self._end_raw()
            self._records += bytes((_SUMMED, *_leb(len(name)))) + name
            self._records += _leb(offset) + _leb(length) + crc.to_bytes(_CRC_SIZE, "little")

    def give_up(self) -> None:
        """Note that the layer has not all of the content that was in the tar."""
        self._whole = False

    def finish(self) -> bool:
        """Write the rest; return whether the recipe is whole and as short as it has to be."""
        self._flush()
        self._out.flush(zstandard.FLUSH_FRAME)
        return self._whole and self._out.tell() <= self._allowed()

    def _allowed(self) -> int:
        return max(LEAST, self._covered // SHARE)

    def _end_raw(self) -> None:
        if self._raw:
            self._records += bytes((_RAW, *_leb(len(self._raw)))) + self._raw
            self._raw.clear()
        if len(self._records) > _BUFFER:
            self._write()

    def _flush(self) -> None:
        self._end_raw()
        self._write()
        if self._out.tell() > self._allowed() + _EARLY:
            self._whole = False  # an attacker's: the disk is not to be filled with it

    def _write(self) -> None:
        self._out.write(self._records)
        self._records.clear()


def replay(recipe: BinaryIO, root_fd: int, out: BinaryIO) -> Digest:
    """Write the tar that *recipe* tells of, with content from the layer *root_fd*, to *out*.

    Return the digest of what was written, which says whether it is the tar that it was. Raises
    RecipeError, and OSError of writing.
    """
    writer = HashingWriter(out)
    for piece in pieces(recipe, root_fd):
        writer.write(piece)
    return writer.digest()


def pieces(
    recipe: BinaryIO, root_fd: int, changed: Callable[[bytes], None] | None = None
) -> Iterator[bytes]:
    """Yield the tar that *recipe* tells of, with content from the layer *root_fd*.

    With *changed* all of it, whatever became of the layer: in the place of content that is gone
    come zeros, and where it is there and is another, *changed* gets the file's name. Without it
    raises RecipeError where content is gone; always for a damaged recipe.
    """
    for record in _records(recipe):
        if isinstance(record, bytes):
            yield record
            continue
        crc, is_whole = 0, True
        for piece in _content(root_fd, record):
            if piece is not None:
                crc = crc if changed is None else zlib.crc32(piece, crc)
                yield piece
            elif changed is None:
                name = record.name
                raise RecipeError(f"the layer's file {name!r} is gone or shorter than it was")
            else:
                is_whole = False
        if changed is not None and is_whole and record.crc not in (None, crc):
            changed(record.name)


def opened_tar(
    recipe: BinaryIO, root_fd: int, changed: Callable[[bytes], None] | None = None
) -> BinaryIO:
    """Return the tar of ``pieces`` as something that can be read; reading raises as that does."""
    return cast("BinaryIO", _Pulled(pieces(recipe, root_fd, changed)))


class _Pulled(io.RawIOBase):
    """Reads what a generator yields, in pieces of about the size that is asked for."""

    def __init__(self, source: Iterator[bytes]) -> None:
        super().__init__()
        self._source = source

    def readable(self) -> bool:
        return True

    def read(self, count: int | None = -1) -> bytes:
        """Return the next pieces, *count* bytes or somewhat more, less only at the end."""
        found: list[bytes] = []
        size = 0
        for piece in self._source:
            found.append(piece)
            size += len(piece)
            if count is not None and 0 <= count <= size:
                break
        return b"".join(found)


def require_whole(recipe: BinaryIO) -> bool:
    """Return whether *recipe* has sums of all content.

    Raises RecipeError unless it can be read to its end; no file's content is looked at.
    """
    summed = True
    for record in _records(recipe):
        summed = summed and (isinstance(record, bytes) or record.crc is not None)
    return summed


class _Content(NamedTuple):
    """A record: bytes of a file, with their CRC-32 if that was written down."""

    name: bytes
    offset: int
    length: int
    crc: int | None


def _records(recipe: BinaryIO) -> Iterator[bytes | _Content]:
    """Yield what *recipe* holds, bytes in pieces. Raises RecipeError."""
    reader = _Reader(recipe)
    try:
        if reader.exactly(len(MAGIC)) != MAGIC:
            raise RecipeError("a layer's recipe is not one")
        while reader.more():
            kind = reader.exactly(1)[0]
            if kind == _RAW:
                yield from reader.raw(reader.number())
            elif kind in (_CONTENT, _SUMMED):
                name = reader.exactly(reader.number())
                where = reader.number(), reader.number()
                sum_ = reader.exactly(_CRC_SIZE) if kind == _SUMMED else None
                crc = None if sum_ is None else int.from_bytes(sum_, "little")
                yield _Content(name, *where, crc)
            else:
                raise RecipeError(f"a layer's recipe has a record of unknown kind {kind}")
    except zstandard.ZstdError as error:
        raise RecipeError(f"a layer's recipe is damaged: {error}") from None


def _content(root_fd: int, record: _Content) -> Iterator[bytes | None]:
    """Yield the bytes of *record*; None, then zeros, where the file is gone or too short."""
    fd = -1
    try:
        try:
            path = b"/".join(components(record.name, _LIMITS))
            fd = open_beneath(root_fd, path, _READ)
        except OSError:
            pass
        offset, end = record.offset, record.offset + record.length
        while offset < end:
            count = min(_CHUNK, end - offset)
            data = _read(fd, count, offset) if fd >= 0 else b""
            if not data:
                if fd >= 0:
                    os.close(fd)
                    fd = -1
                yield None
                yield from _zeros(end - offset)
                return
            yield data
            offset += len(data)
    finally:
        if fd >= 0:
            os.close(fd)


def _read(fd: int, count: int, offset: int) -> bytes:
    try:
        return os.pread(fd, count, offset)
    except OSError:  # no regular file any more, or the disk gives nothing
        return b""


def _zeros(count: int) -> Iterator[bytes]:
    while count:
        piece = bytes(min(count, _CHUNK))
        yield piece
        count -= len(piece)


class _Reader:
    """Numbers and bytes of a recipe."""

    def __init__(self, recipe: BinaryIO) -> None:
        self._source = zstandard.ZstdDecompressor().stream_reader(recipe, closefd=False)
        self._chunk = b""
        self._at = 0

    def raw(self, length: int) -> Iterator[bytes]:
        """Yield the next *length* bytes in pieces."""
        while length:
            piece = self.exactly(min(length, _CHUNK))
            yield piece
            length -= len(piece)

    def number(self) -> int:
        """Return the number that comes next."""
        value = shift = 0
        while True:
            byte = self.exactly(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def exactly(self, count: int) -> bytes:
        """Return the next *count* bytes. Raises RecipeError where the recipe ends before."""
        while len(self._chunk) - self._at < count:
            more = self._source.read(_CHUNK)
            if not more:
                raise RecipeError("a layer's recipe ends too early")
            self._chunk, self._at = self._chunk[self._at :] + more, 0
        found = self._chunk[self._at : self._at + count]
        self._at += count
        return found

    def more(self) -> bool:
        """Return whether a record follows."""
        if self._at == len(self._chunk):
            self._chunk, self._at = self._source.read(_CHUNK), 0
        return bool(self._chunk)


def _leb(value: int) -> bytes:
    """Return *value* in groups of seven bits, the lowest first (DWARF 5, 7.6)."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
