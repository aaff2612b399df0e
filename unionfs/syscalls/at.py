"""Calls relative to a directory descriptor: opening without leaving a root, renaming, linking.

The daemon and the importer never resolve an attacker's path by text. ``open_beneath`` is the one
way to walk more than a component (openat2(2), Linux 5.6).
"""

from __future__ import annotations

import ctypes
import errno
import os

from unionfs.syscalls._libc import check, function, libc

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_SYS_OPENAT2 = 437  # the same number on every architecture (asm-generic)
_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH_MAX = 4096

_syscall = libc.syscall
_syscall.restype = ctypes.c_long
_renameat2 = function(
    "renameat2", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
)


class PathFd(int):
    """An O_PATH descriptor, which the calls on attributes have to reach through /proc."""

    __slots__ = ()


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def openat2(dir_fd: int, path: bytes, flags: int, resolve: int, mode: int = 0) -> int:
    """Return a close-on-exec descriptor of *path* below *dir_fd*, as openat2(2).

    *flags* are ``O_*``, *resolve* ``RESOLVE_*``; *mode* (octal permission bits) counts only with
    O_CREAT or O_TMPFILE. Raises OSError; ELOOP where a symbolic link was met and EXDEV where the
    walk would have left the root.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    while True:
        result: int = _syscall(
            _SYS_OPENAT2,
            ctypes.c_int(dir_fd),
            ctypes.c_char_p(path),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if result < 0 and ctypes.get_errno() in (errno.EAGAIN, errno.EINTR):
            continue  # a rename raced with the walk; openat2(2) says to try again
        return check(result, path)


def open_beneath(dir_fd: int, path: bytes, flags: int, mode: int = 0) -> int:
    """Open *path* (relative, any length) below *dir_fd* without following any symbolic link.

    Paths longer than PATH_MAX are walked in pieces. Raises OSError as ``openat2``.
    """
    resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    if len(path) < _PATH_MAX:
        return openat2(dir_fd, path, flags, resolve, mode)
    at = dir_fd
    try:
        while len(path) >= _PATH_MAX:
            cut = path.rindex(b"/", 0, _PATH_MAX - 1)
            step = openat2(at, path[:cut], _DIR_FLAGS, resolve)
            if at != dir_fd:
                os.close(at)
            at, path = step, path[cut + 1 :]
        return openat2(at, path, flags, resolve, mode)
    finally:
        if at != dir_fd:
            os.close(at)


def open_dir(dir_fd: int, name: bytes) -> int:
    """Return a descriptor for reading the directory *name* in *dir_fd*; never follows a link.

    Reading leaves no trace in its access time, where we may say so (open(2), O_NOATIME).
    """
    try:
        return os.open(name, _DIR_FLAGS | os.O_NOATIME, dir_fd=dir_fd)
    except PermissionError:
        return os.open(name, _DIR_FLAGS, dir_fd=dir_fd)


def names_in(fd: int) -> list[bytes]:
    """Return all names in the directory that is open on *fd*, as of now. Raises OSError.

    Where the descriptor stands does not matter, nor how long it has been open: btrfs lists only
    what was there when that was opened or rewound (fs/btrfs/inode.c, btrfs_opendir()), and what
    os.listdir does is to rewind it afterwards.
    """
    os.lseek(fd, 0, os.SEEK_SET)
    return [os.fsencode(name) for name in os.listdir(fd)]


def renameat2(old_fd: int, old: bytes, new_fd: int, new: bytes, flags: int = 0) -> None:
    """Rename as renameat2(2), with ``RENAME_*`` *flags*. Raises OSError."""
    if not flags:
        os.rename(old, new, src_dir_fd=old_fd, dst_dir_fd=new_fd)
        return
    check(_renameat2(old_fd, old, new_fd, new, flags), old, new)


def proc_path(fd: int) -> bytes:
    """Return the /proc path that stands for what *fd* (an O_PATH descriptor, say) refers to."""
    return b"/proc/self/fd/%d" % fd


def name_path(dir_fd: int, name: bytes) -> bytes:
    """Return a path that reaches *name* in *dir_fd*, for calls that have no ``*at`` form.

    Use it with ``follow_symlinks=False``: it follows nothing but the descriptor.
    """
    return b"/proc/self/fd/%d/%s" % (dir_fd, name)


def link_fd(fd: int, new_fd: int, new: bytes) -> None:
    """Give the file behind *fd* (O_TMPFILE or O_PATH) the name *new* in *new_fd*.

    Through /proc rather than AT_EMPTY_PATH, which needs CAP_DAC_READ_SEARCH. Raises OSError.
    """
    os.link(proc_path(fd), new, dst_dir_fd=new_fd, follow_symlinks=True)


def exists(dir_fd: int, name: bytes) -> bool:
    """Return whether *name* is in *dir_fd* (a dangling symbolic link is there)."""
    try:
        os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
