"""Directories of the store that mounts use, whoever sees those mounts.

A daemon has a shared flock on each of its lower directories for as long as it lives
(``unionfs.union.layer.Layer.hold``). The mount table tells of the mounts of this mount namespace
only; the locks tell of all.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from unionfs.syscalls.mount import mount_table

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCKS, _FDINFO = "/proc/locks", "/proc/self/fdinfo"


@contextmanager
def unused(path: str) -> Iterator[bool]:
    """Yield whether no mount uses the directory *path*; if so, none can begin to in the block.

    What is not there is not used. Raises OSError.
    """
    try:
        fd = os.open(path, _DIR)
    except FileNotFoundError:
        yield True
        return
    try:
        yield _taken(fd)
    finally:
        os.close(fd)


def _taken(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def users(path: str) -> list[int]:
    """Return the pids of the daemons that use the directory *path*, as far as they can be seen."""
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        file = f"{_filesystem(fd)}:{os.fstat(fd).st_ino}"
    finally:
        os.close(fd)
    with open(_LOCKS) as table:
        lines = [line.split() for line in table]
    # proc_locks(5): number, kind, ADVISORY, READ, pid, file, start, end
    pids = {int(words[4]) for words in lines if words[1] == "FLOCK" and words[5] == file}
    return sorted(pid for pid in pids if pid > 0)


def _filesystem(fd: int) -> str:
    """Return the device number of the filesystem of *fd* as the table of locks spells it.

    The mount has that one. On btrfs stat(2) tells another, of the subvolume.
    """
    with open(f"{_FDINFO}/{fd}") as lines:
        said = dict(line.split(":", 1) for line in lines)
    mounts = {entry.mount_id: entry.device for entry in mount_table()}
    device = os.fstat(fd).st_dev
    shown = mounts.get(int(said["mnt_id"]), f"{os.major(device)}:{os.minor(device)}")
    return ":".join(f"{int(number):02x}" for number in shown.split(":"))
