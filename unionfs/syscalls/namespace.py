"""User namespaces: entering one of one's own, and giving it IDs (user_namespaces(7))."""

from __future__ import annotations

import ctypes
import os
from typing import NamedTuple

from unionfs.syscalls._libc import check, function

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000

_BOTH = ("user", "mnt")  # in this order: the first gives the right to the second

_setns = function("setns", ctypes.c_int, ctypes.c_int)
_unshare = function("unshare", ctypes.c_int)


class Range(NamedTuple):
    """*size* IDs from *first* on, outside the namespace."""

    first: int
    size: int


def enter_user_and_mount_namespace() -> None:
    """Give this process a user namespace, without IDs so far, and a mount namespace in it.

    Only for a process with one thread. Raises OSError: EPERM or ENOSPC where the machine does not
    allow it.
    """
    check(_unshare(_CLONE_NEWUSER | _CLONE_NEWNS))


def join_user_and_mount_namespace(pid: int) -> None:
    """Enter the namespaces of process *pid*, whose user namespace this process's user made.

    Only for a process with one thread. Raises OSError.
    """
    fds = [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in _BOTH]
    try:
        for fd in fds:
            check(_setns(fd, 0))
    finally:
        for fd in fds:
            os.close(fd)


def map_root_only(uid: int, gid: int) -> None:
    """Let *uid* and *gid*, this process's own before it entered, be root here. Raises OSError."""
    _write("setgroups", b"deny")
    _write("uid_map", b"0 %d 1" % uid)
    _write("gid_map", b"0 %d 1" % gid)


def _write(name: str, text: bytes) -> None:
    fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)


def subordinate_ids(path: str, name: str, number: int) -> list[Range]:
    """Return the ranges that *path* (subuid(5), subgid(5)) gives the user *name* or *number*."""
    try:
        with open(path, "rb") as table:
            lines = [line.strip().split(b":") for line in table]
    except OSError:
        return []
    mine = (os.fsencode(name), b"%d" % number)
    return [
        Range(int(words[1]), int(words[2]))
        for words in lines
        if len(words) == 3 and words[0] in mine and words[1].isdigit() and words[2].isdigit()
    ]
