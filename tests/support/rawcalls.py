"""Calls for the parity tables that Python's ``os`` lacks or spells otherwise.

Each makes its system call, through libc, on names relative to the current directory.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

from tests.support.kernel import AT_FDCWD, AT_SYMLINK_NOFOLLOW

AT_EMPTY_PATH, AT_EACCESS, AT_SYMLINK_FOLLOW = 0x1000, 0x200, 0x400
KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO, INSERT, UNSHARE = 1, 2, 8, 16, 32, 64
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
FS_SYNC, FS_IMMUTABLE, FS_APPEND, FS_NODUMP, FS_NOATIME = 0x8, 0x10, 0x20, 0x40, 0x80
FS_DIRSYNC = 0x10000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_SYS_FACCESSAT2 = 439
_LONG = ctypes.c_long


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _path(name: str | bytes) -> bytes:
    return os.fsencode(name)


def chown(name: str, uid: int, gid: int) -> None:
    """chown(2) without Python's check of the numbers; -1 leaves one as it is."""
    _check(_libc.chown(_path(name), ctypes.c_uint(uid), ctypes.c_uint(gid)))


def lchown(name: str, uid: int, gid: int) -> None:
    _check(_libc.lchown(_path(name), ctypes.c_uint(uid), ctypes.c_uint(gid)))


def linkat(old: str, new: str, flags: int) -> None:
    _check(_libc.linkat(AT_FDCWD, _path(old), AT_FDCWD, _path(new), flags))


def link_fd(fd: int, new: str) -> None:
    """Give the file open on *fd* a name, by linkat(2) with AT_EMPTY_PATH."""
    _check(_libc.linkat(fd, b"", AT_FDCWD, _path(new), AT_EMPTY_PATH))


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    _check(_libc.fallocate(fd, mode, _LONG(offset), _LONG(length)))


def faccessat2(name: str, mode: int, flags: int = 0) -> bool:
    _check(_libc.syscall(_SYS_FACCESSAT2, AT_FDCWD, _path(name), mode, flags))
    return True


def truncate(name: str, size: int) -> None:
    _check(_libc.truncate(_path(name), _LONG(size)))


def utimensat(name: str, atime: tuple[int, int], mtime: tuple[int, int], flags: int = 0) -> None:
    """Times as (seconds, nanoseconds), which may be what utimensat(2) refuses."""
    times = (_LONG * 4)(*atime, *mtime)
    _check(_libc.utimensat(AT_FDCWD, _path(name), times, flags))


def utimens_now(name: str, flags: int = AT_SYMLINK_NOFOLLOW) -> None:
    """utimensat(2) without times, which others than the owner may do."""
    _check(_libc.utimensat(AT_FDCWD, _path(name), None, flags))


def fs_flags(fd: int) -> int:
    return struct.unpack("=Q", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8)))[0] & 0xFFFFFFFF


def set_fs_flags(fd: int, add: int, remove: int = 0) -> int:
    """Set and clear flags as chattr(1) does; return those that are there then."""
    flags = fs_flags(fd) & ~remove | add
    fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("=Q", flags))
    return fs_flags(fd)


def fsx(fd: int) -> tuple[int, ...]:
    """Return FS_IOC_FSGETXATTR's xflags, extent size, project and hint, without the extents."""
    words = struct.unpack("=IIIII8x", fcntl.ioctl(fd, FS_IOC_FSGETXATTR, bytes(28)))
    return (*words[:2], *words[3:])


def set_fsx(fd: int, xflags: int) -> tuple[int, ...]:
    """Set FS_IOC_FSSETXATTR's flags; return what is there then."""
    words = list(struct.unpack("=IIIII8x", fcntl.ioctl(fd, FS_IOC_FSGETXATTR, bytes(28))))
    words[0] = xflags
    fcntl.ioctl(fd, FS_IOC_FSSETXATTR, struct.pack("=IIIII8x", *words))
    return fsx(fd)
