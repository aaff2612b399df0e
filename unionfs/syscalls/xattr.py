"""Extended attributes of descriptors and of names in directories.

Attributes of a name go through ``/proc/self/fd`` (there is no ``getxattrat`` before Linux 6.13).
Reading uses ``os``, which costs a fifth of the ``xattr`` package's two-step read and runs once per
directory of every layer; the ``xattr`` package does the rest, with its CREATE and REPLACE flags.
A *target* is an open descriptor, a ``PathFd``, or a path of bytes that is never followed.
"""

from __future__ import annotations

import errno
import os

import xattr as _xattr

from unionfs.syscalls.at import PathFd, proc_path
from unionfs.syscalls.capability import CAPABILITY

# The package's numbers are not the system's.
_FLAGS = {0: 0, os.XATTR_CREATE: _xattr.XATTR_CREATE, os.XATTR_REPLACE: _xattr.XATTR_REPLACE}

_ABSENT = frozenset((errno.ENODATA, errno.EOPNOTSUPP))


def _reach(target: int | bytes) -> tuple[int | bytes, bool]:
    """Return what the calls take for *target*, and whether they are to follow a link in it.

    A /proc link of a descriptor is followed, to the file itself and not beyond.
    """
    if isinstance(target, bytes):
        return target, False
    if isinstance(target, PathFd):
        return proc_path(target), True
    return target, True


def get(target: int | bytes, name: bytes) -> bytes | None:
    """Return the value of attribute *name*, or None if there is none or none can be kept.

    Raises OSError for anything else (EPERM, ENOENT, …).
    """
    try:
        where, follow = _reach(target)
        return os.getxattr(where, name, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def names(target: int | bytes) -> list[bytes]:
    """Return the attribute names of *target*; empty where the filesystem keeps none."""
    try:
        where, follow = _reach(target)
        found = os.listxattr(where, follow_symlinks=follow)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return []
        raise
    return [os.fsencode(name) for name in found]


def set_(target: int | bytes, name: bytes, value: bytes, flags: int = 0) -> None:
    """Set attribute *name* to *value*, with XATTR_CREATE or XATTR_REPLACE (``os``) as *flags*.

    Raises OSError; EINVAL for other flags.
    """
    if flags not in _FLAGS:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    where, follow = _reach(target)
    _xattr.setxattr(where, name, value, _FLAGS[flags], symlink=not follow)


def remove(target: int | bytes, name: bytes) -> None:
    """Remove attribute *name*. Raises OSError (ENODATA if there is none)."""
    where, follow = _reach(target)
    _xattr.removexattr(where, name, symlink=not follow)


def has(target: int | bytes, name: bytes) -> bool:
    """Return whether *target* has the attribute *name*, void or not. Raises OSError.

    Void is an empty ``security.capability``: everybody may set one, it means nothing, and the
    kernel gives it out to nobody (EINVAL).
    """
    try:
        return get(target, name) is not None
    except OSError as error:
        if not _is_void(name, error):
            raise
        return True


def get_valid(target: int | bytes, name: bytes) -> bytes | None:
    """As ``get``, with None for what is void as well (``has``)."""
    try:
        return get(target, name)
    except OSError as error:
        if not _is_void(name, error):
            raise
        return None


def _is_void(name: bytes, error: OSError) -> bool:
    return name == CAPABILITY and error.errno == errno.EINVAL


def get_all(target: int | bytes) -> dict[bytes, bytes]:
    """Return every attribute of *target* with its value, but for what vanishes or is void."""
    found = {}
    for name in names(target):
        value = get_valid(target, name)
        if value is not None:
            found[name] = value
    return found
