"""Raw calls that the tests make and that Python's ``os`` lacks: each one says what it stands for.

The tests use their own spellings rather than ``unionfs.syscalls``, so that a mistake there cannot
hide itself.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os
import re
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.support.stacks import ORDINARY

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE = 1, 32, 16384, 1 << 18
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
CLONE_NEWNS = 0x20000
_WAIT_BEFORE, _WRITE, _WAIT_AFTER = 1, 2, 4  # SYNC_FILE_RANGE_*
_MEMORY = "/proc/sys/vm"
_PR_SET_KEEPCAPS, _CAPABILITY_VERSION_3 = 8, 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_SYS_GETDENTS64 = {"x86_64": 217, "aarch64": 61}[os.uname().machine]


def _check(result: int, name: bytes | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result


class Dirent(NamedTuple):
    """One record of getdents64(2)."""

    ino: int
    kind: int
    name: bytes


def getdents(fd: int, *, size: int = 32768) -> list[Dirent]:
    """Return all records from where *fd* stands to the end, ``.`` and ``..`` among them."""
    buffer = ctypes.create_string_buffer(size)
    found: list[Dirent] = []
    while count := _check(_libc.syscall(_SYS_GETDENTS64, fd, buffer, ctypes.c_size_t(size))):
        found.extend(_records(buffer.raw[:count]))
    return found


def getdents_once(fd: int, size: int) -> list[Dirent]:
    """Return what one getdents64(2) with a buffer of *size* bytes gives; nothing at the end."""
    buffer = ctypes.create_string_buffer(size)
    count = _check(_libc.syscall(_SYS_GETDENTS64, fd, buffer, ctypes.c_size_t(size)))
    return list(_records(buffer.raw[:count]))


def getdents_to(fd: int, address: int, size: int) -> int:
    """getdents64(2) to an address; returns how many bytes were written there."""
    to = ctypes.c_void_p(address)
    return _check(_libc.syscall(_SYS_GETDENTS64, fd, to, ctypes.c_size_t(size)))


def _records(data: bytes):
    at = 0
    while at < len(data):
        ino, _offset, length, kind = struct.unpack_from("=QqHB", data, at)
        name = data[at + 19 : at + length].split(b"\0", 1)[0]
        yield Dirent(ino, kind, name)
        at += length


def renameat2(
    old: bytes, new: bytes, flags: int, *, dir_fd: int = AT_FDCWD, to_fd: int | None = None
) -> None:
    """renameat2(2); *new* is relative to *to_fd*, or to the same directory as *old*."""
    target = dir_fd if to_fd is None else to_fd
    _check(_libc.renameat2(dir_fd, old, target, new, ctypes.c_uint(flags)), old)


def utimensat(path: bytes, atime_ns: int, mtime_ns: int, *, dir_fd: int = AT_FDCWD) -> None:
    """Set times of *path* itself; UTIME_NOW and UTIME_OMIT may stand for either."""
    spec = (ctypes.c_long * 4)(*_timespec(atime_ns), *_timespec(mtime_ns))
    _check(_libc.utimensat(dir_fd, path, spec, AT_SYMLINK_NOFOLLOW), path)


def _timespec(ns: int) -> tuple[int, int]:
    return (0, ns) if ns in (UTIME_NOW, UTIME_OMIT) else divmod(ns, 1_000_000_000)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Change the space of a file, with ``FALLOC_FL_*`` in *mode*, as fallocate(2)."""
    arguments = (ctypes.c_int(mode), ctypes.c_int64(offset), ctypes.c_int64(length))
    _check(_libc.fallocate(fd, *arguments))


class Handle(ctypes.Structure):
    """struct file_handle of name_to_handle_at(2), with room for the longest."""

    _fields_ = (("size", ctypes.c_uint), ("kind", ctypes.c_int), ("data", ctypes.c_ubyte * 128))


def handle_of(path: bytes) -> Handle:
    """Return the handle of *path* itself, which outlives its names."""
    found, mount = Handle(size=128), ctypes.c_int()
    _check(_libc.name_to_handle_at(AT_FDCWD, path, ctypes.byref(found), ctypes.byref(mount), 0))
    return found


def open_handle(mount_fd: int, handle: Handle) -> int:
    """Open the file of *handle*, in the mount that *mount_fd* is in, for reading."""
    return _check(_libc.open_by_handle_at(mount_fd, ctypes.byref(handle), os.O_CLOEXEC))


def write_back(fd: int, *, wait: bool = True) -> None:
    """Have the pages that were changed written, and wait until they are (sync_file_range(2))."""
    flags = ctypes.c_uint(_WAIT_BEFORE | _WRITE | _WAIT_AFTER if wait else _WRITE)
    _check(_libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), flags))


@functools.cache
def release() -> tuple[int, int]:
    """Return the running kernel's version."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int(re.match(r"\d+", minor)[0])


def loses_what_grows() -> bool:
    """Return whether its FUSE loses bytes of a write that begins in a page that is written back.

    Without the writeback cache, where a mapping changed that page, the file's last. It does since
    it writes back by iomap (Linux 6.17), whoever serves the mount: test_mapping shows it.
    """
    return release() >= (6, 17)


def mount(source: bytes, target: bytes, kind: bytes, flags: int = 0, data: bytes = b"") -> None:
    _check(_libc.mount(source, target, kind, ctypes.c_ulong(flags), data or None), target)


def umount(target: bytes, flags: int = UMOUNT_NOFOLLOW) -> None:
    if ORDINARY:
        _fusermount(target, "-uz" if flags & MNT_DETACH else "-u")
    else:
        _check(_libc.umount2(target, flags), target)


def _fusermount(target: bytes, how: str) -> None:
    """Unmount as an ordinary user does. The program says no errno; tests wait while it is EBUSY."""
    done = subprocess.run(["fusermount3", how, target], capture_output=True, check=False)
    if done.returncode:
        raise OSError(errno.EBUSY, os.fsdecode(done.stderr.strip()), os.fsdecode(target))


def abort_fuse(target: bytes, folder: bytes) -> None:
    """Cut the FUSE mount *target* off from its daemon: every request that waits fails.

    *folder* (made) is where the kernel's switch for that is looked at.
    """
    found = _mount_at(target)
    assert found is not None
    os.mkdir(folder)
    mount(b"fusectl", folder, b"fusectl")
    try:
        number = found[1].partition(b":")[2]  # the minor number of st_dev
        with open(folder + b"/" + number + b"/abort", "wb") as switch:
            switch.write(b"1")
    finally:
        umount(folder)


own_mounts = False  # whether ``own_mount_namespace`` was called


def own_mount_namespace() -> None:
    """Give this process and its children mounts that nobody else sees or keeps."""
    global own_mounts
    own_mounts = True
    _check(_libc.unshare(CLONE_NEWNS))
    mount(b"none", b"/", b"none", MS_REC | MS_PRIVATE)


def mounted_at(target: bytes) -> bytes | None:
    """Return the type of the topmost mount on exactly *target*, None if nothing is mounted."""
    found = _mount_at(target)
    return found[0] if found is not None else None


def _mount_at(target: bytes) -> tuple[bytes, bytes] | None:
    """Return type and device (``major:minor``) of the topmost mount on exactly *target*."""
    found = None
    with open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            left, _, right = line.partition(b" - ")
            words = left.split(b" ")
            where = words[4].decode("unicode_escape").encode("latin-1")
            if where == target:
                found = right.split(b" ")[0], words[2]
    return found


def become_with(uid: int, capabilities: int) -> None:
    """Become *uid*, with the *capabilities* (a bit for each number below 32) and no others."""
    _check(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setresuid(uid, uid, uid)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, struct.pack("=6I", capabilities, capabilities, 0, 0, 0, 0)))


def forget() -> None:
    """Let the kernel forget the names and nodes that nobody uses, of all filesystems."""
    with _memory(fcntl.LOCK_EX), open(_MEMORY + "/drop_caches", "w") as file:
        file.write("2")


@contextmanager
def remembered() -> Iterator[None]:
    """Let no test of another process ``forget`` meanwhile."""
    with _memory(fcntl.LOCK_SH):
        yield


@contextmanager
def _memory(lock: int) -> Iterator[None]:
    fd = os.open(_MEMORY, os.O_RDONLY | os.O_DIRECTORY)  # there for all, whatever their TMPDIR
    try:
        fcntl.flock(fd, lock)
        yield
    finally:
        os.close(fd)
