"""Where an image is written to: a layout's directory or an archive, whole or not at all.

Both are made under another name beside their own, synced and renamed. What has been written gets
its name only when it is complete and its digest is known: in a directory by renaming, in an archive
by going back to its header.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from unionfs.digest import Digest
from unionfs.errors import ConflictError, UnavailableError, UsageError
from unionfs.image.source import Kind
from unionfs.syscalls.publish import fsync_dir
from unionfs.syscalls.synctree import sync_tree
from unionfs.tarball import header
from unionfs.tarball.header import BLOCK
from unionfs.tarball.writer import HashingWriter, Member, member_header

_KINDS = {kind.value: kind for kind in (Kind.OCI, Kind.OCI_ARCHIVE, Kind.DOCKER_ARCHIVE)}
_END = bytes(2 * BLOCK)


class BadDestinationError(UsageError):
    """A word is not where an image can be written to."""


class TakenError(ConflictError):
    """Something is at the place where an image is to be written to."""


class UnwritableError(UnavailableError):
    """The destination of an image cannot be written: no space, no permission."""


@dataclass(frozen=True, slots=True)
class Destination:
    """``KIND:PATH[:REF]``; *reference* is what to call the image there, None: as it is called."""

    kind: Kind
    path: str
    reference: str | None

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.path}"


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a blob: its digest and bytes."""

    digest: Digest
    size: int


Write = Callable[[BinaryIO], None]
"""Writes a blob."""


class Sink(Protocol):
    """What a directory and an archive have in common while they are being written."""

    parallel: bool  # whether several blobs can be written at a time

    def blob(self, write: Write, name: Callable[[Digest], str]) -> Written:
        """Add what *write* writes under the name that *name* gives its digest. Raises OSError."""

    def kept(self, path: str, found: Written, write: Write, name: Callable[[Digest], str]) -> None:
        """As ``blob`` for the file *path*, which holds what *write* writes and *found* says."""

    def document(self, name: str, data: bytes) -> None:
        """Add the file *name*. Raises OSError."""


def parse(text: str) -> Destination:
    """Return the destination that *text* names. Raises BadDestinationError."""
    word, _, rest = text.partition(":")
    kind = _KINDS.get(word)
    if kind is None or not rest:
        raise BadDestinationError(f"{text!r} is not oci:DIR, oci-archive:FILE, docker-archive:FILE")
    path, colon, reference = rest.rpartition(":")
    if not colon or not path or "/" in reference:
        return Destination(kind, rest, None)
    if not reference or kind is Kind.DOCKER_ARCHIVE:
        raise BadDestinationError(f"{text!r}: no image can be called {reference!r} there")
    return Destination(kind, path, reference)


@contextmanager
def opened(destination: Destination) -> Iterator[Sink]:
    """What to write to; it gets its name at the end of the block, and goes if that fails.

    Raises TakenError where something is there, and UnwritableError for any OSError in the block.
    """
    try:
        with _made(destination) as sink:
            yield sink
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else destination.path
        raise UnwritableError(
            f"cannot write {destination}: {error.strerror or error}: {where}"
        ) from error


@contextmanager
def _made(destination: Destination) -> Iterator[Sink]:
    path = os.path.abspath(destination.path)
    is_directory = destination.kind is Kind.OCI
    if os.path.lexists(path) and not (is_directory and _is_empty(path)):
        raise TakenError(f"{destination.path} is there already")
    parent = os.path.dirname(path)
    temporary = os.path.join(parent, f".{os.path.basename(path)}.{secrets.token_hex(8)}")
    try:
        if is_directory:
            os.mkdir(temporary)
            yield DirectorySink(temporary)
            sync_tree(temporary)
        else:
            with open(temporary, "xb") as file:
                yield ArchiveSink(file)
                file.write(_END)
                file.flush()
                os.fsync(file.fileno())
        os.rename(temporary, path)
        fsync_dir(parent)
    except BaseException:
        _remove(temporary)
        raise


class DirectorySink:
    """Writes files below the directory *root*."""

    parallel = True

    def __init__(self, root: str) -> None:
        self._root = root

    def blob(self, write: Write, name: Callable[[Digest], str]) -> Written:
        """Add what *write* writes under the name that *name* gives its digest. Raises OSError."""
        temporary = os.path.join(self._root, f".{secrets.token_hex(8)}")
        with open(temporary, "xb") as file:
            out = HashingWriter(file)
            write(out)  # type: ignore[arg-type]
        final = self._place(name(out.digest()))
        os.rename(temporary, final)
        return Written(out.digest(), out.size)

    def kept(self, path: str, found: Written, write: Write, name: Callable[[Digest], str]) -> None:
        """Add what *write* writes. Raises OSError."""
        self.blob(write, name)

    def document(self, name: str, data: bytes) -> None:
        """Add the file *name*. Raises OSError."""
        with open(self._place(name), "xb") as file:
            file.write(data)

    def _place(self, name: str) -> str:
        path = os.path.join(self._root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path


class LinkingSink(DirectorySink):
    """A directory on the filesystem of the files that are kept: those become hard links."""

    def kept(self, path: str, found: Written, write: Write, name: Callable[[Digest], str]) -> None:
        """Add the file *path*; it may lose its other name meanwhile. Raises OSError."""
        os.link(path, self._place(name(found.digest)))


class ArchiveSink:
    """Writes members of the tar *file*, which can be sought in."""

    parallel = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def blob(self, write: Write, name: Callable[[Digest], str]) -> Written:
        """Add what *write* writes under the name that *name* gives its digest. Raises OSError."""
        start = self._file.tell()
        self._file.write(bytes(BLOCK))
        out = HashingWriter(self._file)
        write(out)  # type: ignore[arg-type]
        self._file.write(bytes(-out.size % BLOCK))
        end = self._file.tell()
        self._file.seek(start)
        self._file.write(_member(name(out.digest()), out.size))
        self._file.seek(end)
        return Written(out.digest(), out.size)

    def kept(self, path: str, found: Written, write: Write, name: Callable[[Digest], str]) -> None:
        """Add what *write* writes. Raises OSError."""
        self.blob(write, name)

    def document(self, name: str, data: bytes) -> None:
        """Add the file *name*. Raises OSError."""
        self._file.write(_member(name, len(data)) + data + bytes(-len(data) % BLOCK))


def _member(name: str, size: int) -> bytes:
    member = Member(kind=header.REGULAR, name=name.encode(), mode=0o644, size=size)
    return member_header(member, base256=True)


def _is_empty(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path) and not os.listdir(path)


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)
