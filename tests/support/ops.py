"""File operations as values: the same one can be done in several trees and its answers compared.

An ``Op`` prints as the expression that makes it. ``perform`` returns the answer in a form that
does not depend on the tree it was done in: what was read, a stat without what filesystems disagree
about, or the name of the errno.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.support import kernel
from tests.support.answers import digest, pattern, shown, stamp


class Op(NamedTuple):
    """One operation: its name in ``OPERATIONS``, its arguments and who does it."""

    name: str
    args: tuple
    uid: int = 0

    def __repr__(self) -> str:
        user = f", uid={self.uid}" if self.uid else ""
        return f"Op({self.name!r}, {self.args!r}{user})"


@dataclass
class World:
    """A tree that operations are done in, and the descriptors that they opened there by slot."""

    name: str
    root: bytes
    handles: dict[int, int] = field(default_factory=dict)

    def path(self, relative: bytes) -> bytes:
        return self.root + b"/" + relative

    def close_all(self) -> None:
        for fd in self.handles.values():
            os.close(fd)
        self.handles.clear()


OPERATIONS: dict[str, Callable] = {}
HANDLE_OPERATIONS: set[str] = set()


def perform(world: World, op: Op):
    """Do *op* in *world* as its user and return what it answered; see the module."""
    function = OPERATIONS[op.name]
    with _as_user(op.uid):
        try:
            return function(world, *op.args)
        except OSError as error:
            return errno.errorcode[error.errno or 0]


class _as_user:
    """Be *uid* with group *uid* and the supplementary group 2000 for the length of a with."""

    def __init__(self, uid: int) -> None:
        self.uid = uid

    def __enter__(self) -> None:
        if self.uid:
            os.setgroups([2000])
            os.setegid(self.uid)
            os.seteuid(self.uid)

    def __exit__(self, *_error) -> None:
        if self.uid:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups([])


def _operation(function: Callable) -> Callable:
    OPERATIONS[function.__name__.rstrip("_")] = function
    return function


def _handle_operation(function: Callable) -> Callable:
    """An operation on the descriptor of a slot; nothing to do where the slot is empty."""

    def on_slot(world: World, slot: int, *args):
        if slot not in world.handles:
            return "no handle"
        return function(world, slot, *args)

    OPERATIONS[function.__name__] = on_slot
    HANDLE_OPERATIONS.add(function.__name__)
    return on_slot


# --- names ---------------------------------------------------------------------------------------


@_operation
def mkdir(world: World, path: bytes, mode: int) -> None:
    os.mkdir(world.path(path), mode)


@_operation
def rmdir(world: World, path: bytes) -> None:
    os.rmdir(world.path(path))


@_operation
def mknod(world: World, path: bytes, mode: int, device: int = 0) -> None:
    os.mknod(world.path(path), mode, device)


@_operation
def symlink(world: World, path: bytes, target: bytes) -> None:
    os.symlink(target, world.path(path))


@_operation
def link(world: World, old: bytes, new: bytes) -> None:
    os.link(world.path(old), world.path(new), follow_symlinks=False)


@_operation
def unlink(world: World, path: bytes) -> None:
    os.unlink(world.path(path))


@_operation
def rename(world: World, old: bytes, new: bytes, flags: int = 0) -> None:
    kernel.renameat2(world.path(old), world.path(new), flags)


@_operation
def rmtree(world: World, path: bytes) -> None:
    """``rm -rf``: everything below *path*, then itself; the first error ends it."""
    _rmtree(world.path(path))


def _rmtree(path: bytes) -> None:
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
        return
    for name in sorted(os.listdir(path)):
        _rmtree(path + b"/" + name)
    os.rmdir(path)


# --- attributes ----------------------------------------------------------------------------------


@_operation
def chmod(world: World, path: bytes, mode: int) -> None:
    if stat.S_ISLNK(os.lstat(world.path(path)).st_mode):
        return  # would leave the tree
    os.chmod(world.path(path), mode)


@_operation
def chown(world: World, path: bytes, uid: int, gid: int) -> None:
    os.lchown(world.path(path), uid, gid)


@_operation
def utime(world: World, path: bytes, atime: int, mtime: int) -> tuple:
    kernel.utimensat(world.path(path), atime, mtime)
    st = os.lstat(world.path(path))
    return stamp(st.st_mtime_ns), atime == kernel.UTIME_OMIT or stamp(st.st_atime_ns)


@_operation
def truncate(world: World, path: bytes, size: int) -> None:
    """Set the size to another one: at the same size filesystems disagree about mtime."""
    st = os.lstat(world.path(path))
    if stat.S_ISLNK(st.st_mode) or (stat.S_ISREG(st.st_mode) and st.st_size == size):
        return
    os.truncate(world.path(path), size)


@_operation
def setxattr(world: World, path: bytes, name: str, value: bytes, flags: int = 0) -> None:
    os.setxattr(world.path(path), name, value, flags, follow_symlinks=False)


@_operation
def removexattr(world: World, path: bytes, name: str) -> None:
    os.removexattr(world.path(path), name, follow_symlinks=False)


@_operation
def getxattr(world: World, path: bytes, name: str) -> bytes:
    return os.getxattr(world.path(path), name, follow_symlinks=False)


@_operation
def listxattr(world: World, path: bytes) -> list[str]:
    return sorted(os.listxattr(world.path(path), follow_symlinks=False))


@_operation
def stat_(world: World, path: bytes) -> tuple:
    return shown(os.lstat(world.path(path)))


@_operation
def access(world: World, path: bytes, mode: int) -> bool:
    return os.access(world.path(path), mode, effective_ids=True, follow_symlinks=False)


@_operation
def readlink(world: World, path: bytes) -> bytes:
    return os.readlink(world.path(path))


@_operation
def listdir(world: World, path: bytes) -> list[tuple[bytes, int]]:
    fd = os.open(world.path(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        return _listing(fd)
    finally:
        os.close(fd)


def _listing(fd: int) -> list[tuple[bytes, int]]:
    os.lseek(fd, 0, os.SEEK_SET)
    return sorted((entry.name, entry.kind) for entry in kernel.getdents(fd))


# --- content -------------------------------------------------------------------------------------


@_operation
def write(
    world: World, path: bytes, flags: int, offset: int, fill: int, length: int, mode: int = 0o644
) -> int:
    """Open with *flags* (O_CREAT, O_TRUNC, … beside O_WRONLY), write once, close."""
    fd = os.open(world.path(path), os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | flags, mode)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return 0
        return os.pwrite(fd, pattern(fill, length), offset)
    finally:
        os.close(fd)


@_operation
def read(world: World, path: bytes) -> tuple[int, str]:
    fd = os.open(world.path(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            return (0, "a directory")
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return (0, "a special file")
        return digest(_everything(fd))
    finally:
        os.close(fd)


def _everything(fd: int) -> bytes:
    pieces, at = [], 0
    while piece := os.pread(fd, 1 << 20, at):
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)


@_operation
def copy(world: World, old: bytes, new: bytes) -> int:
    """``cp old new`` by copy_file_range(2)."""
    source = os.open(world.path(old), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            return -1
        mode = os.fstat(source).st_mode & 0o777
        target = os.open(
            world.path(new),
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK,
            mode,
        )
        try:
            if not stat.S_ISREG(os.fstat(target).st_mode):
                return -1
            count = 0
            while done := os.copy_file_range(source, target, 1 << 20):
                count += done
            return count
        finally:
            os.close(target)
    finally:
        os.close(source)


# --- descriptors ---------------------------------------------------------------------------------


@_operation
def open_(world: World, slot: int, path: bytes, flags: int, mode: int = 0o644) -> None:
    """Open into *slot*; what was open there is closed first."""
    if slot in world.handles:
        os.close(world.handles.pop(slot))
    world.handles[slot] = os.open(
        world.path(path), flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode
    )


@_handle_operation
def close(world: World, slot: int) -> None:
    os.close(world.handles.pop(slot))


@_handle_operation
def hread(world: World, slot: int) -> tuple | str:
    if not stat.S_ISREG(os.fstat(world.handles[slot]).st_mode):
        return "not a file"
    return digest(_everything(world.handles[slot]))


@_handle_operation
def hwrite(world: World, slot: int, offset: int, fill: int, length: int) -> int | str:
    if not stat.S_ISREG(os.fstat(world.handles[slot]).st_mode):
        return "not a file"
    return os.pwrite(world.handles[slot], pattern(fill, length), offset)


@_handle_operation
def hstat(world: World, slot: int) -> tuple:
    return shown(os.fstat(world.handles[slot]))


@_handle_operation
def htruncate(world: World, slot: int, size: int) -> None:
    st = os.fstat(world.handles[slot])
    if stat.S_ISREG(st.st_mode) and st.st_size == size:
        return
    os.ftruncate(world.handles[slot], size)


@_handle_operation
def hsync(world: World, slot: int) -> None:
    os.fsync(world.handles[slot])


@_handle_operation
def hchmod(world: World, slot: int, mode: int) -> None:
    os.fchmod(world.handles[slot], mode)


@_handle_operation
def hchown(world: World, slot: int, uid: int, gid: int) -> None:
    os.fchown(world.handles[slot], uid, gid)


@_handle_operation
def hutime(world: World, slot: int, mtime: int) -> None:
    os.utime(world.handles[slot], ns=(mtime, mtime))


@_handle_operation
def hsetxattr(world: World, slot: int, name: str, value: bytes) -> None:
    os.setxattr(world.handles[slot], name, value)


@_handle_operation
def hgetxattr(world: World, slot: int, name: str) -> bytes:
    return os.getxattr(world.handles[slot], name)


@_handle_operation
def hlistdir(world: World, slot: int) -> list[tuple[bytes, int]]:
    return _listing(world.handles[slot])
