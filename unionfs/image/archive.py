"""An image archive, read where it lies: an index of its members, and no unpacking.

A compressed archive is first decompressed to a temporary file, since blobs are needed in the order
of the documents and not in that of the archive.
"""

from __future__ import annotations

import os
import posixpath
import stat
from typing import NamedTuple, cast

from unionfs.errors import RefusedError
from unionfs.image.files import MissingFileError, Section, shown
from unionfs.tarball import header
from unionfs.tarball.compression import open_decompressed
from unionfs.tarball.header import TarFormatError, check_sum
from unionfs.tarball.limits import Limits
from unionfs.tarball.reader import TarReader
from unionfs.tarball.stream import TarStream

_MAX_MEMBERS = 100_000
_MAX_HOPS = 8
_COPY = 1 << 20
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_SPOOL = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_LINKS = (header.SYMLINK, header.HARDLINK)


class BadArchiveError(RefusedError):
    """An archive cannot be used as the container of an image."""


class TooManyMembersError(BadArchiveError):
    """An archive has more members, or longer names, than that of an image can have."""


class NotATarError(BadArchiveError):
    """A file is no archive at all."""


class _Data(NamedTuple):
    offset: int
    size: int


class _Link(NamedTuple):
    target: bytes


class ArchiveFiles:
    """The plain files of the tar behind *fd*, which this object owns. *path* is for errors."""

    is_local = True

    def __init__(self, fd: int, path: str, limits: Limits) -> None:
        """Read the index. Raises TarFormatError, BadArchiveError, LimitError, OSError."""
        start = os.pread(fd, header.BLOCK, 0)
        if start != header.ZERO_BLOCK and not (len(start) == header.BLOCK and check_sum(start)):
            raise NotATarError(f"{path} is not a tar archive")
        self._fd = fd
        self._path = path
        self._members: dict[bytes, _Data | _Link | None] = {}
        self._index(limits)

    def open(self, name: bytes) -> Section:
        """Return the member *name*; links inside the archive (old ``docker save``) are followed."""
        member = self._members.get(_normal(name))
        for _ in range(_MAX_HOPS):
            if not isinstance(member, _Link):
                break
            member = self._members.get(member.target)
        if not isinstance(member, _Data):
            raise MissingFileError(f"{shown(name)} is not in {self._path}, or no plain file")
        return Section(os.dup(self._fd), member.offset, member.size)

    def has(self, name: bytes) -> bool:
        """Return whether the archive has a member *name* or something below it."""
        wanted = _normal(name)
        return wanted in self._members or any(
            member.startswith(wanted + b"/") for member in self._members
        )

    def interrupt(self) -> None:
        """Do nothing: what is here does not keep anybody waiting."""

    def close(self) -> None:
        """Close the archive."""
        os.close(self._fd)

    def _index(self, limits: Limits) -> None:
        stream = _SeekingStream(self._fd)
        # TarReader uses of a TarStream what is here; the members' data need not be read for it.
        reader = TarReader(cast("TarStream", stream), limits)
        kept = 0
        for entry in reader:
            kept += len(entry.name) + len(entry.link)
            if kept > limits.max_kept:
                raise TooManyMembersError(
                    f"{self._path} has names of more than max_kept={limits.max_kept} bytes:"
                    " no archive of an image"
                )
            name = _normal(entry.name)
            self._members.pop(name, None)
            if entry.kind == header.REGULAR and entry.sparse is None:
                self._members[name] = _Data(stream.offset, entry.size)
            elif entry.kind in _LINKS:
                self._members[name] = _Link(_target(name, entry))
            else:
                self._members[name] = None
            if len(self._members) > _MAX_MEMBERS:
                raise TooManyMembersError(
                    f"{self._path} has more than {_MAX_MEMBERS} members: no archive of an image"
                )


class _SeekingStream:
    """A tar in a file, for TarReader: what is skipped is not read."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size
        self.offset = 0

    def take(self, count: int) -> bytes:
        data = os.pread(self._fd, count, self.offset)
        self.offset += len(data)
        return data

    def exactly(self, count: int) -> bytes:
        data = self.take(count)
        if len(data) != count:
            raise TarFormatError(f"archive ends in the middle of an entry, at {self.offset}")
        return data

    def skip(self, count: int) -> None:
        self.offset += count
        if self.offset > self._size:
            raise TarFormatError(f"archive ends at {self._size}, in the middle of an entry")


def open_archive(fd: int, path: str, scratch: str, limits: Limits) -> ArchiveFiles:
    """Return the files of the archive *fd* (taken over), decompressed into *scratch* if need be.

    Raises BadArchiveError, DecompressionError, TarFormatError, LimitError, OSError.
    """
    try:
        if is_compressed(fd):
            spooled = _spool(fd, path, scratch, limits)
            os.close(fd)
            fd = spooled
        return ArchiveFiles(fd, path, limits)
    except BaseException:
        os.close(fd)
        raise


def open_plain(path: str) -> int:
    """Return a descriptor of the plain file *path*. Raises BadArchiveError, OSError."""
    fd = os.open(path, _OPEN)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BadArchiveError(f"{path} is not a plain file")
    return fd


def is_compressed(fd: int) -> bool:
    """Return whether the file starts as gzip or zstd does."""
    start = os.pread(fd, 4, 0)
    return start[:2] == b"\x1f\x8b" or start == b"\x28\xb5\x2f\xfd"


def _spool(fd: int, path: str, scratch: str, limits: Limits) -> int:
    """Return a descriptor of a new file in *scratch* that holds the decompressed archive."""
    out = os.open(os.path.join(scratch, "archive"), _SPOOL, 0o600)
    left = limits.max_bytes
    try:
        with Section(os.dup(fd), 0, os.fstat(fd).st_size) as raw:
            reader = open_decompressed(raw)  # type: ignore[arg-type]
            while data := reader.read(_COPY):
                left -= len(data)
                if left < 0:
                    raise limits.exceeded("max_bytes", f"archive {path} too long")
                _write_all(out, data)
    except BaseException:
        os.close(out)
        raise
    return out


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _normal(name: bytes) -> bytes:
    """Return the key of *name*: no ``.``, no ``..``, relative to the archive's root."""
    return posixpath.normpath(b"/" + name).lstrip(b"/")


def _target(name: bytes, entry: header.Entry) -> bytes:
    if entry.kind == header.HARDLINK:
        return _normal(entry.link)
    return _normal(posixpath.join(posixpath.dirname(name), entry.link))
