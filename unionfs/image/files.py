"""The files of an image source: a layout directory, an archive read where it lies, a registry.

A name in a document is looked up among these files, never resolved: in a directory component by
component without following links, in an archive as a key of its index. (Registries: ``remote``.)
"""

from __future__ import annotations

import io
import os
import stat
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

from unionfs.errors import CorruptError, UnavailableError
from unionfs.image.documents import MAX_DOCUMENT, BadDocumentError
from unionfs.syscalls.at import exists, open_beneath

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class MissingFileError(CorruptError):
    """A file that an image needs is not in its source, or is not a plain file."""


class UnreadableError(UnavailableError):
    """The source of an image is there, but reading it fails."""


class Content(io.RawIOBase, ABC):
    """What a file of a source holds: *size* bytes, read once from their beginning."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def readable(self) -> bool:
        """Return True."""
        return True

    @abstractmethod
    def start(self, count: int) -> bytes:
        """Return the next *count* bytes (a few), fewer at the end, without moving on."""

    @abstractmethod
    def again(self) -> Content:
        """Return the same bytes once more, from the beginning, read independently of this."""

    @abstractmethod
    def read(self, count: int | None = -1) -> bytes:
        """Return up to *count* bytes, none only at the end. Raises UnreadableError."""

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill *buffer* with what ``read`` returns; return the count."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def is_whole_file(self) -> bool:
        """Return whether these bytes are all of a file that is here, behind ``fileno``."""
        return False


class Section(Content):
    """*size* bytes at *offset* of the file behind *fd*, read without moving its position.

    It owns *fd* and closes it.
    """

    def __init__(self, fd: int, offset: int, size: int) -> None:
        super().__init__(size)
        self._fd = fd
        self._at = offset
        self._end = offset + size

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def start(self, count: int) -> bytes:
        """Return the next *count* bytes, fewer at the end, without moving on."""
        return os.pread(self._fd, min(count, self._end - self._at), self._at)

    def again(self) -> Section:
        """Return the same bytes once more, from the beginning, on a descriptor of its own."""
        return Section(os.dup(self._fd), self._end - self.size, self.size)

    def is_whole_file(self) -> bool:
        """Return whether these bytes are all of their file."""
        return self._end == self.size == os.fstat(self._fd).st_size

    def read(self, count: int | None = -1) -> bytes:
        """Return up to *count* bytes, fewer than that at the end. Raises UnreadableError."""
        left = self._end - self._at
        wanted = left if count is None or count < 0 else min(count, left)
        try:
            data = os.pread(self._fd, wanted, self._at) if wanted else b""
        except OSError as error:
            raise UnreadableError(f"cannot read the image source: {error.strerror}") from error
        self._at += len(data)
        return data

    def close(self) -> None:
        """Close the descriptor."""
        if not self.closed:
            os.close(self._fd)
        super().close()


class Files(Protocol):
    """What a directory, an archive and a registry have in common.

    ``is_local``: a file can be read again at no cost worth saving.
    """

    is_local: bool

    def open(self, name: bytes) -> Content:
        """Return the plain file *name*. Raises MissingFileError, OSError."""

    def has(self, name: bytes) -> bool:
        """Return whether something has that *name*."""

    def interrupt(self) -> None:
        """Let no thread wait any longer for what it reads; it fails there."""


class DirectoryFiles:
    """The files below the directory *fd*, which this object owns. *path* is for errors."""

    is_local = True

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path

    def open(self, name: bytes) -> Section:
        """Return the plain file *name*; one that is a link, or below a link, does not count."""
        try:
            fd = open_beneath(self._fd, name, _FILE)
        except OSError as error:
            raise MissingFileError(f"{shown(name)} in {self._path}: {error.strerror}") from None
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode):
            os.close(fd)
            raise MissingFileError(f"{shown(name)} in {self._path} is not a plain file")
        return Section(fd, 0, st.st_size)

    def has(self, name: bytes) -> bool:
        """Return whether something has that *name*."""
        return exists(self._fd, name)

    def interrupt(self) -> None:
        """Do nothing: what is here does not keep anybody waiting."""

    def close(self) -> None:
        """Close the directory."""
        os.close(self._fd)


def shown(name: bytes) -> str:
    """Return *name*, an attacker's, as it can stand in a line of an error."""
    return ascii(os.fsdecode(name))


def read_document(files: Files, name: bytes) -> bytes:
    """Return the whole file *name*. Raises MissingFileError, BadDocumentError if it is too long."""
    with files.open(name) as file:
        if file.size > MAX_DOCUMENT:
            raise BadDocumentError(f"{shown(name)} is longer than {MAX_DOCUMENT} bytes")
        return b"".join(iter(lambda: file.read(1 << 20), b""))
