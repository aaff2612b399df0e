"""Layer blobs are plain tars or tars in gzip or zstd (image-spec layer.md): both directions.

Which it is, is seen from the first bytes and not from the media type, as containerd does: wrong
media types are common, and the diffID says whether the right bytes came out. Output is bounded by
what the caller asks for, whatever the ratio.
"""

from __future__ import annotations

import gzip
import io
import zlib
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

import zstandard

from unionfs.errors import CorruptError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Kind = Literal["gzip", "zstd", "none"]

MAGIC_SIZE = 4
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = frozenset(b"\x50\x51\x52\x53\x54\x55\x56\x57\x58\x59\x5a\x5b\x5c\x5d\x5e\x5f")
_INPUT = 128 << 10
_ZSTD_WINDOW = 128 << 20  # bytes of memory that a frame may ask for; `zstd --long` asks for this
_GZIP_WBITS = 31  # zlib: 15 bits of window, with a gzip header and trailer


class DecompressionError(CorruptError):
    """Compressed bytes are damaged, cut short or followed by something else."""


def open_decompressed(raw: BinaryIO) -> BinaryIO:
    """Return a reader of what *raw* holds, decompressed if it starts as gzip or zstd.

    Reading raises DecompressionError, and what reading *raw* raises. *raw* is read to its end when
    the reader is; closing the reader does not close it.
    """
    start = _read_up_to(raw, MAGIC_SIZE)
    source = _Prefixed(start, raw)
    readers: dict[Kind, type[_Reader]] = {"gzip": _GzipReader, "zstd": _ZstdReader}
    reader = readers.get(kind_of(start))
    return cast("BinaryIO", source if reader is None else reader(source))


def kind_of(start: bytes) -> Kind:
    """Return the compression of what starts with the MAGIC_SIZE bytes *start*."""
    if start.startswith(_GZIP_MAGIC):
        return "gzip"
    if start == _ZSTD_MAGIC or (start[1:] == b"\x2a\x4d\x18" and start[0] in _SKIPPABLE):
        return "zstd"
    return "none"


def compress(kind: Kind, out: BinaryIO) -> BinaryIO:
    """Return a writer that compresses to *out*; closing it ends the stream and leaves *out* open.

    The bytes depend on the input and the library's version only.
    """
    if kind == "gzip":
        return cast("BinaryIO", gzip.GzipFile("", "wb", compresslevel=6, fileobj=out, mtime=0))
    if kind == "zstd":
        return cast("BinaryIO", zstandard.ZstdCompressor(3).stream_writer(out, closefd=False))
    return cast("BinaryIO", _Plain(out))


class _Reader(io.RawIOBase):
    """A readable stream by ``read(count)`` alone; *count* is never exceeded."""

    def __init__(self, source: _Prefixed) -> None:
        super().__init__()
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view)) or b""
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(1 << 20) or b"", b""))


class _Prefixed(_Reader):
    """*start*, then the rest of *raw*."""

    def __init__(self, start: bytes, raw: BinaryIO) -> None:
        super().__init__(self)
        self._start = start
        self._raw = raw

    def read(self, count: int = -1) -> bytes:
        if count < 0:
            return self.readall()
        if self._start:
            found, self._start = self._start[:count], self._start[count:]
            return found
        return self._raw.read(count)


class _GzipReader(_Reader):
    """gzip with any number of members (pigz, eStargz), zero padding allowed at the end."""

    def __init__(self, source: _Prefixed) -> None:
        super().__init__(source)
        self._inflate = zlib.decompressobj(_GZIP_WBITS)
        self._pending = b""

    def read(self, count: int = -1) -> bytes:
        if count < 0:
            return self.readall()
        pieces: list[bytes] = []
        while count and (piece := self._some(count)):
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def _some(self, count: int) -> bytes:
        """Return 1 to *count* bytes, none at the end of the input."""
        while True:
            if self._inflate.eof and not self._next_member():
                return b""
            data = self._pending or self._source.read(_INPUT)
            try:
                found = self._inflate.decompress(data, count)
            except zlib.error as error:
                raise DecompressionError(f"layer is not valid gzip: {error}") from None
            self._pending = self._inflate.unconsumed_tail
            if found:
                return found
            if not data and not self._inflate.eof:
                raise DecompressionError("layer's gzip stream ends too early")

    def _next_member(self) -> bool:
        """Go to the member after the one that ended; return False if there is none."""
        rest = self._inflate.unused_data
        while not rest.strip(b"\0"):
            rest = self._source.read(_INPUT)
            if not rest:
                return False
        if not (rest := rest.lstrip(b"\0") if rest[0] == 0 else rest).startswith(b"\x1f"):
            raise DecompressionError("layer has something else after its gzip stream")
        self._pending = rest
        self._inflate = zlib.decompressobj(_GZIP_WBITS)
        return True


class _ZstdReader(_Reader):
    """zstd with any number of frames.

    The library does not tell a frame that is cut short from one that ended; the tar in it does.
    """

    def __init__(self, source: _Prefixed) -> None:
        super().__init__(source)
        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._reader = decompressor.stream_reader(
            cast("BinaryIO", source), read_size=_INPUT, read_across_frames=True, closefd=False
        )

    def read(self, count: int = -1) -> bytes:
        if count < 0:
            return self.readall()
        try:
            return self._reader.read(count)
        except zstandard.ZstdError as error:
            raise DecompressionError(f"layer is not valid zstd: {error}") from None


class _Plain(io.RawIOBase):
    """Passes everything on to *out*."""

    def __init__(self, out: BinaryIO) -> None:
        super().__init__()
        self._out = out

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        return self._out.write(data)  # type: ignore[call-overload, no-any-return]


def _read_up_to(raw: BinaryIO, count: int) -> bytes:
    found = b""
    while len(found) < count and (more := raw.read(count - len(found))):
        found += more
    return found
