"""Making files and directories appear whole or not at all."""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from unionfs.syscalls._libc import check, function
from unionfs.syscalls.at import RENAME_NOREPLACE, renameat2

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_syncfs = function("syncfs", ctypes.c_int)


def sync_filesystem(fd: int) -> None:
    """Make everything on the filesystem of *fd* durable, as syncfs(2). Raises OSError.

    For a tree of thousands of files that is far cheaper than an fsync of each.
    """
    check(_syncfs(fd))


def fsync_dir(path: bytes | str) -> None:
    """Make the names in the directory *path* durable."""
    fd = os.open(path, _DIR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def publish(dir_fd: int, temporary: bytes, final: bytes) -> None:
    """Rename *temporary* to *final* in *dir_fd*, durably, never over something that is there.

    The content must have been synced by the caller. Raises FileExistsError if *final* exists.
    """
    renameat2(dir_fd, temporary, dir_fd, final, RENAME_NOREPLACE)
    os.fsync(dir_fd)


def write_file(path: str, data: bytes, mode: int = 0o600) -> None:
    """Replace the file *path* by one with *data*, durably and in one step (permissions *mode*).

    Raises OSError naming *path*.
    """
    try:
        _write_beside(path, data, mode)
    except OSError as error:
        error.filename, error.filename2 = path, None
        raise
    fsync_dir(os.path.dirname(path) or ".")


def _write_beside(path: str, data: bytes, mode: int) -> None:
    temporary = f"{path}.tmp.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


@contextmanager
def locked(path: str, *, shared: bool = False, wait: bool = True) -> Iterator[int]:
    """Hold a flock(2) on the file *path* (made if missing, 0600); yields its descriptor.

    With *wait* False raises BlockingIOError if somebody else holds it.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(fd, kind if wait else kind | fcntl.LOCK_NB)
        yield fd
    finally:
        os.close(fd)
