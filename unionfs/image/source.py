"""The word that says where an image comes from: its kind, its path, which image of several."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from enum import Enum

from unionfs.errors import NotFoundError, UsageError
from unionfs.image.archive import (
    ArchiveFiles,
    NotATarError,
    TooManyMembersError,
    open_archive,
    open_plain,
)
from unionfs.image.docker import is_docker_archive
from unionfs.image.files import DirectoryFiles, Files
from unionfs.image.layout import is_layout
from unionfs.image.plan import NotAnImageError
from unionfs.tarball.limits import Limits

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_ROOT_DIRECTORIES = (b"bin", b"etc", b"lib", b"sbin", b"usr")


class BadSourceError(UsageError):
    """A word is not a source of an image."""


class NoSuchSourceError(NotFoundError):
    """The path of a source is not there or cannot be read."""


class Kind(Enum):
    """The kinds of source, by their prefix on the command line."""

    OCI = "oci"
    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"
    ROOTFS = "rootfs"


@dataclass(frozen=True, slots=True)
class Source:
    """A source: *kind* is None until it is detected; *reference* says which image of several."""

    kind: Kind | None
    path: str
    reference: str | None

    def __str__(self) -> str:
        prefix = "" if self.kind is None else f"{self.kind.value}:"
        return prefix + self.path + ("" if self.reference is None else f":{self.reference}")


def parse(text: str) -> Source:
    """Return the source that *text* names: ``KIND:PATH[:REF]``, or ``PATH[:REF]``.

    A path may contain colons: the longest beginning of the rest that exists is the path. Raises
    BadSourceError, NoSuchSourceError.
    """
    word, colon, rest = text.partition(":")
    kinds = {kind.value: kind for kind in Kind}
    kind = kinds.get(word) if colon else None
    rest = text if kind is None else rest
    if not rest:
        raise BadSourceError(f"no path in the image source {text!r}")
    path, reference = (rest, "") if kind is Kind.ROOTFS else _split(rest)
    if not os.path.lexists(path):
        raise NoSuchSourceError(f"no image source there: no file or directory {rest!r}")
    return Source(kind, path, reference or None)


@contextmanager
def opened(source: Source, scratch: str, limits: Limits) -> Iterator[tuple[Source, Files | None]]:
    """The source with its kind detected and, unless it is a root filesystem, its files.

    Raises NotAnImageError, NoSuchSourceError, CorruptError, RefusedError.
    """
    if source.kind is Kind.ROOTFS:
        yield source, None
        return
    is_directory = os.path.isdir(source.path)
    _check_shape(source, is_directory)
    try:
        files = _open(source.path, is_directory, scratch, limits)
    except TooManyMembersError:
        if source.kind is not None:
            raise
        yield replace(source, kind=Kind.ROOTFS), None
        return
    except NotATarError:
        if source.kind is not None:
            raise
        raise _unknown(source) from None
    with closing(files):
        yield (source if source.kind else _detected(source, files, is_directory)), files


def _split(rest: str) -> tuple[str, str]:
    """Split at the colon that leaves the longest path that exists; else at the first."""
    end = len(rest)
    while end > 0:
        if os.path.lexists(rest[:end]):
            return rest[:end], rest[end + 1 :]
        end = rest.rfind(":", 0, end)
    path, _, reference = rest.partition(":")
    return path, reference


def _open(
    path: str, is_directory: bool, scratch: str, limits: Limits
) -> DirectoryFiles | ArchiveFiles:
    try:
        fd = os.open(path, _DIR) if is_directory else open_plain(path)
    except OSError as error:
        raise NoSuchSourceError(f"cannot read {path}: {error.strerror}") from None
    return DirectoryFiles(fd, path) if is_directory else open_archive(fd, path, scratch, limits)


def _check_shape(source: Source, is_directory: bool) -> None:
    if source.kind is Kind.OCI and not is_directory:
        raise NotAnImageError(f"{source.path} is no directory (an archive is oci-archive:FILE)")
    if source.kind in (Kind.OCI_ARCHIVE, Kind.DOCKER_ARCHIVE) and is_directory:
        raise NotAnImageError(f"{source.path} is a directory and not an archive")


def _detected(source: Source, files: Files, is_directory: bool) -> Source:
    if is_directory and is_layout(files):
        return replace(source, kind=Kind.OCI)
    if not is_directory and is_docker_archive(files):
        return replace(source, kind=Kind.DOCKER_ARCHIVE)
    if not is_directory and is_layout(files):
        return replace(source, kind=Kind.OCI_ARCHIVE)
    if any(files.has(name) for name in _ROOT_DIRECTORIES):
        return replace(source, kind=Kind.ROOTFS)
    raise _unknown(source)


def _unknown(source: Source) -> NotAnImageError:
    return NotAnImageError(
        f"{source.path} is neither an OCI layout nor a docker archive nor a root filesystem"
        " (rootfs:PATH takes it as one all the same)"
    )
