"""Making the calls: steps are the name of a method of ``Actor`` with plain arguments."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
from typing import Any

from tests.support import kernel
from tests.support import rawcalls as raw

_READ, _SPLICED = 100, b"spliced"
_FROM, _TO, _COPIED = 0, 5, 3  # of copy_file_range(2)
_ALLOCATED_FROM = 2
_SECONDS = 111, 222  # since 1970: times that are told from those of now
_SORTED = ("listdir", "listxattr")
Step = tuple[Any, ...]


class Actor:
    """In the directory *top* of one side, with descriptors by number (a slot)."""

    def __init__(self, top: str) -> None:
        self.top = top
        self.fds: dict[int, int] = {}

    def answer(self, step: Step) -> Any:
        """Make the call; return what it returns, or the errno's name. Raises nothing."""
        name, *args = step
        try:
            return getattr(self, name)(*args)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        except (KeyError, ValueError) as error:  # a slot is empty, a mapping longer than its file
            return type(error).__name__

    def close(self) -> None:
        """Close all."""
        while self.fds:
            os.close(self.fds.popitem()[1])

    def os(self, what: str, *args: Any) -> Any:
        """Call that function of Python's."""
        got = getattr(os, what)(*args)
        return sorted(got) if what in _SORTED else got

    def fd(self, what: str, slot: int, *args: Any) -> Any:
        """Call it with a descriptor."""
        return getattr(os, what)(self.fds[slot], *args)

    def fd_path(self, what: str, slot: int, *args: Any) -> Any:
        """Call it with a descriptor's name in /proc."""
        return getattr(os, what)(f"/proc/self/fd/{self.fds[slot]}", *args)

    def umasked(self, umask: int, step: Step) -> Any:
        """Make a call with a umask."""
        name, *args = step
        was = os.umask(umask)
        try:
            return getattr(self, name)(*args)
        finally:
            os.umask(was)

    def opened(self, slot: int, path: str, flags: int, mode: int = 0) -> str:
        """Open a file in a slot, which may close another."""
        fd = os.open(path, flags | os.O_NONBLOCK, mode)
        if slot in self.fds:
            os.close(self.fds.pop(slot))
        self.fds[slot] = fd
        return "opened"

    def map_write(self, slot: int) -> None:
        """Write through a mapping."""
        with mmap.mmap(self.fds[slot], 4) as mapped:
            mapped[0:1] = b"M"
            mapped.flush()

    def splice(self, slot: int) -> int:
        """Write from a pipe."""
        read, write = os.pipe()
        try:
            os.write(write, _SPLICED)
            return os.splice(read, self.fds[slot], len(_SPLICED), offset_dst=0)
        finally:
            os.close(read)
            os.close(write)

    def copy(self, slot: int, other: int) -> int:
        """Write what another file has."""
        return os.copy_file_range(self.fds[slot], self.fds[other], _COPIED, _FROM, _TO)

    def link(self, old: str, new: str) -> None:
        """Give a file a name; symbolic links are not followed."""
        raw.linkat(old, new, 0)

    def link_fd(self, slot: int, new: str) -> None:
        """Give an open file a name, as who has opened it or may do all."""
        raw.link_fd(self.fds[slot], new)

    def link_fd_path(self, slot: int, new: str) -> None:
        """Give an open file a name, as anybody."""
        raw.linkat(f"/proc/self/fd/{self.fds[slot]}", new, raw.AT_SYMLINK_FOLLOW)

    def fallocate(self, slot: int, mode: int, length: int) -> None:
        """Make room, or a hole."""
        raw.fallocate(self.fds[slot], mode, _ALLOCATED_FROM, length)

    def set_flags(self, slot: int, flags: int) -> None:
        """Set what chattr(1) does."""
        old = struct.unpack("=I", fcntl.ioctl(self.fds[slot], raw.FS_IOC_GETFLAGS, bytes(4)))[0]
        kept = old & ~(raw.FS_NODUMP | raw.FS_NOATIME)
        fcntl.ioctl(self.fds[slot], raw.FS_IOC_SETFLAGS, struct.pack("=I", kept | flags))

    def chown(self, path: str, uid: int, gid: int) -> None:
        """As chown(2)."""
        raw.chown(path, uid, gid)

    def lchown(self, path: str, uid: int, gid: int) -> None:
        """As lchown(2)."""
        raw.lchown(path, uid, gid)

    def touch(self, path: str, atime: int, mtime: int) -> None:
        """Set times of long ago: nanoseconds, UTIME_NOW or UTIME_OMIT."""
        raw.utimensat(path, (_SECONDS[0], atime), (_SECONDS[1], mtime))

    def access(self, path: str, mode: int, flags: int) -> bool:
        """As faccessat2(2)."""
        return raw.faccessat2(path, mode, flags)

    def rename(self, old: str, new: str, flags: int) -> None:
        """As renameat2(2)."""
        kernel.renameat2(os.fsencode(old), os.fsencode(new), flags)

    def read(self, path: str) -> bytes:
        """Read a file's beginning."""
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.read(fd, _READ)
        finally:
            os.close(fd)

    def execute(self, path: str) -> int:
        """Run what is no program; the errno is told as a status."""
        pid = os.fork()
        if not pid:
            try:
                os.execv(path, [path])
            except OSError as error:
                os._exit(error.errno or 0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
