"""A file's flags, as chattr(1) sets them: ioctl_iflags(2), ioctl_xfs_fsgetxattr(2), statx(2)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct

from unionfs.syscalls._libc import check, function
from unionfs.syscalls.at import proc_path

# linux/fs.h; statx(2) has the same bits for these two
IMMUTABLE, APPEND = 0x10, 0x20
PROTECTING = IMMUTABLE | APPEND
# What a program may set, FS_FL_USER_MODIFIABLE, but for those two: s u c S d A t D T of chattr(1)
DESCRIBING = 0x380FF & ~PROTECTING

GET_FLAGS, SET_FLAGS = 0x80086601, 0x40086602
GET_XATTR, SET_XATTR = 0x801C581F, 0x401C5820
READING, CHANGING = (GET_FLAGS, GET_XATTR), (SET_FLAGS, SET_XATTR)
_XFLAGS = {IMMUTABLE: 0x8, APPEND: 0x10}  # FS_XFLAG_*, in the first word of struct fsxattr

_FIRST, _MODE = struct.Struct("=I"), struct.Struct("=H")
_ROOM = 32  # bytes, more than either form has
_UNKNOWN = frozenset((errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.ENOSYS))

_AT_SYMLINK_NOFOLLOW, _AT_EMPTY_PATH = 0x100, 0x1000
_STATX_SIZE, _ATTRIBUTES_AT, _MODE_AT = 256, 8, 28
_STATX_TYPE = 1
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_statx = function(
    "statx", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p
)


def protecting(dir_fd: int, name: bytes = b"") -> int:
    """Return which of IMMUTABLE and APPEND *name* in *dir_fd* (or that itself) has.

    0 too where the filesystem does not say. Raises OSError.
    """
    found = ctypes.create_string_buffer(_STATX_SIZE)
    check(_statx(dir_fd, name, _AT_SYMLINK_NOFOLLOW | _AT_EMPTY_PATH, _STATX_TYPE, found), name)
    said = int(_FIRST.unpack_from(found, _ATTRIBUTES_AT)[0]) & PROTECTING
    return said and _set_by_somebody(dir_fd, name, int(_MODE.unpack_from(found, _MODE_AT)[0]), said)


def _set_by_somebody(dir_fd: int, name: bytes, mode: int, said: int) -> int:
    """Return which flags of *said* somebody gave the file, by chattr(1), which can be asked.

    EROFS says of all its files that they are immutable (fs/erofs/inode.c, erofs_getattr()) and has
    no flags. Nor has what is neither file nor directory; *mode* says whether it is.
    """
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return 0
    try:
        if name:
            fd = os.open(name, _OPEN | os.O_NOFOLLOW, dir_fd=dir_fd)
        else:
            fd = os.open(proc_path(dir_fd), _OPEN)
    except PermissionError:
        return said
    try:
        return (_now(fd) or 0) & PROTECTING
    finally:
        os.close(fd)


def ask(fd: int, command: int) -> bytes:
    """Return what *command* (of READING) says of the open *fd*, in 32 bytes. Raises OSError."""
    return fcntl.ioctl(fd, command, bytes(_ROOM))


def tell(fd: int, command: int, wanted: bytes) -> None:
    """Carry out *command* (of CHANGING) with the structure *wanted*. Raises OSError."""
    fcntl.ioctl(fd, command, wanted.ljust(_ROOM, b"\0"))


def describing(fd: int) -> int:
    """Return which flags of DESCRIBING the file open on *fd* has; 0 where there are none at all.

    Raises OSError for an error of the disk.
    """
    return (_now(fd) or 0) & DESCRIBING


def describe(fd: int, wanted: int) -> None:
    """Give the file open on *fd* the flags *wanted* of DESCRIBING: those that it can have there.

    Raises OSError for an error of the disk.
    """
    now = _now(fd) if wanted else None
    if now is None or _try(fd, now | wanted):
        return
    for bit in range(wanted.bit_length()):  # some are not for this filesystem: one by one
        flag = wanted & 1 << bit
        if flag and _try(fd, now | flag):
            now |= flag


def _now(fd: int) -> int | None:
    try:
        return int(_FIRST.unpack_from(ask(fd, GET_FLAGS))[0])
    except OSError as error:
        if error.errno in _UNKNOWN:
            return None
        raise


def _try(fd: int, flags: int) -> bool:
    try:
        tell(fd, SET_FLAGS, _FIRST.pack(flags))
    except OSError as error:
        if error.errno in _UNKNOWN:
            return False
        raise
    return True


def split(command: int, wanted: bytes) -> tuple[bytes, int]:
    """Return *wanted*, the structure of *command*, without IMMUTABLE and APPEND; and those."""
    (flags,) = _FIRST.unpack_from(wanted)
    protection = 0
    for flag in (IMMUTABLE, APPEND):
        bit = _bit(command, flag)
        protection |= flag if flags & bit else 0
        flags &= ~bit
    return _FIRST.pack(flags) + wanted[_FIRST.size :], protection


def joined(command: int, found: bytes, protection: int) -> bytes:
    """Return *found*, the structure that *command* gave, with the flags *protection* as well."""
    (flags,) = _FIRST.unpack_from(found)
    for flag in (IMMUTABLE, APPEND):
        flags |= _bit(command, flag) if protection & flag else 0
    return _FIRST.pack(flags) + found[_FIRST.size :]


def _bit(command: int, flag: int) -> int:
    return flag if command in (GET_FLAGS, SET_FLAGS) else _XFLAGS[flag]
