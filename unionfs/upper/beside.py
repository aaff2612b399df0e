"""Marks of upper files, also of those that can carry none themselves.

Symbolic links and special files take no ``user.*`` attributes (xattr(7)). What is to be said of one
with ``user.overlay.*`` marks is said on an empty file in the work directory's ``marks``, whose name
is the upper file's handle. A handle is never used again, so one that a crash left behind says
nothing of another file.
"""

from __future__ import annotations

import errno
import os

from unionfs.ondisk.flavour import Flavour
from unionfs.syscalls import xattr
from unionfs.syscalls.at import name_path
from unionfs.syscalls.handle import handle_of
from unionfs.upper.upper import Upper

_AT_FDCWD = -100
_REFUSED = (errno.EPERM, errno.EOPNOTSUPP)
_CREATE = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def get(upper: Upper, target: int | bytes, name: bytes) -> bytes | None:
    """Return the mark *name* of the upper file *target* (as for ``xattr``), None if there is none.

    Raises OSError.
    """
    value = xattr.get(target, name)
    folder = -1 if value is not None else _folder(upper)
    if folder < 0:
        return value
    try:
        return xattr.get(name_path(folder, _name(target)), name)
    except FileNotFoundError:
        return None


def set_(upper: Upper, target: int | bytes, name: bytes, value: bytes) -> None:
    """Set the mark *name* of the upper file *target*. Raises OSError."""
    try:
        xattr.set_(target, name, value)
    except OSError as error:
        if error.errno not in _REFUSED or not usable(upper):
            raise
        fd = os.open(_name(target), _CREATE, 0o600, dir_fd=_folder(upper))
        try:
            xattr.set_(fd, name, value)
        finally:
            os.close(fd)


def forget(upper: Upper, target: int | bytes) -> None:
    """Remove what is said of *target*, which is to go. If that fails it stays, and hurts nobody."""
    try:
        folder = _folder(upper)
        if folder >= 0:
            os.unlink(_name(target), dir_fd=folder)
    except OSError:
        pass


def usable(upper: Upper) -> bool:
    """Return whether marks can be beside their files; makes the directory the first time."""
    if upper.flavour is not Flavour.USER:
        return False
    try:
        if _folder(upper) < 0:
            upper.marks_fd = upper.work.open_marks()
        handle_of(_folder(upper))
    except OSError:
        return False
    return True


def _folder(upper: Upper) -> int:
    """Return a descriptor of the directory, -1 if there is none; opened the first time."""
    if upper.marks_fd is None:
        kept = upper.flavour is Flavour.USER and upper.work.has_marks()
        upper.marks_fd = upper.work.open_marks() if kept else -1
    return upper.marks_fd


def _name(target: int | bytes) -> bytes:
    """Return the name under which something is said of *target*. Raises OSError."""
    if isinstance(target, bytes):
        kind, data = handle_of(_AT_FDCWD, target)
    else:
        kind, data = handle_of(target)
    return b"%x-%s" % (kind, data.hex().encode())
