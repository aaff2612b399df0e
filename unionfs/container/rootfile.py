"""Reading inside a container's root from the host, where every name may be a trap.

An image may ship ``/etc/passwd`` as a link to the host's, or as a fifo that nobody writes
(CVE-2024-9676, CVE-2024-1753). Paths are resolved by openat2(2) with the root as root.
"""

from __future__ import annotations

import errno
import os
import stat

from unionfs.errors import CorruptError
from unionfs.syscalls.at import (
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
)

_INSIDE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_ABSENT = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG))
_SMALL = 8 << 20


class RootFileError(CorruptError):
    """A file of the image that must be read is not a small regular file."""


def open_root(path: bytes | str) -> int:
    """Return a close-on-exec descriptor of the root directory *path*. Raises OSError."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def read_small(root_fd: int, path: bytes) -> bytes:
    """Return the content of the file *path* inside the root; empty if there is none.

    Symbolic links are followed inside the root only. Raises RootFileError for what is not a
    regular file or has more than 8 MiB, OSError for what cannot be read.
    """
    try:
        # O_NONBLOCK: opening a fifo must not wait for its writer.
        fd = openat2(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, _INSIDE)
    except OSError as error:
        if error.errno in _ABSENT:
            return b""
        raise
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise RootFileError(f"the image's {os.fsdecode(path)} is not a regular file")
        if status.st_size > _SMALL:
            raise RootFileError(f"the image's {os.fsdecode(path)} is larger than 8 MiB")
        return file.read(_SMALL)


def stat_inside(root_fd: int, path: bytes, *, links: bool = True) -> os.stat_result | None:
    """Return the status of *path* inside the root, None if there is no such file.

    With *links* False a path that has a symbolic link anywhere counts as missing. Raises OSError.
    """
    resolve = _INSIDE if links else _INSIDE | RESOLVE_NO_SYMLINKS
    try:
        fd = openat2(root_fd, path, os.O_PATH, resolve)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)
