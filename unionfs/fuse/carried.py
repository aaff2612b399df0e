"""Request handlers for what pyfuse3 does not know and the extension brings.

Such a request comes as a GETXATTR (``native.CARRIER``), with what was really asked beside it; its
reply is the bytes that are returned here. Structures are those of linux/fuse.h.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pyfuse3

from unionfs.fuse import loop, threads
from unionfs.fuse.state import State
from unionfs.syscalls.flags import CHANGING, READING
from unionfs.syscalls.space import fallocate
from unionfs.union.node import Node
from unionfs.union.protection import check_change, check_write
from unionfs.upper import flags
from unionfs.upper.attributes import drop_set_id

_IOCTL, _FALLOCATE, _LSEEK, _COPY_FILE_RANGE = 39, 43, 46, 47  # enum fuse_opcode

_FALLOCATE_IN = struct.Struct("=QQQII")  # fh, offset, length, mode, padding
_LSEEK_IN = struct.Struct("=QqII")  # fh, offset (which may be negative), whence, padding
_LSEEK_OUT = struct.Struct("=Q")
_COPY_IN = struct.Struct("=QQQQQQQ")  # fh_in, off_in, nodeid_out, fh_out, off_out, len, flags
_WRITE_OUT = struct.Struct("=II")  # size, padding
_IOCTL_IN = struct.Struct("=QIIQII")  # fh, flags, cmd, arg, in_size, out_size
_IOCTL_OUT = struct.Struct("=iIII")  # result, flags, in_iovs, out_iovs

_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE

T = TypeVar("T")

_INLINE = 1 << 20  # bytes that are copied or allocated at once rather than in a thread
_PIECE = 64 << 20  # a caller who is told to die waits for one answer at most


class CarriedHandlers(State):
    """The part of ``Operations`` that is about ranges of files and about file flags."""

    async def carried(
        self, node: Node, opcode: int, body: bytes, ctx: pyfuse3.RequestContext
    ) -> bytes:
        """Answer the request *opcode* (enum fuse_opcode) with *body*. Raises OSError."""
        if opcode == _FALLOCATE:
            await self._fallocate(node, body, ctx)
            return b""
        if opcode == _LSEEK:
            return await self._lseek(node, body)
        if opcode == _COPY_FILE_RANGE:
            return await self._copy_range(node, body, ctx)
        return await self._ioctl(node, body)

    async def _fallocate(self, node: Node, body: bytes, ctx: pyfuse3.RequestContext) -> None:
        _, offset, length, mode, _ = _FALLOCATE_IN.unpack_from(body)
        check_change(self.tree, node, appends=not mode & ~_KEEP_SIZE)
        await self.own_data(node)
        self._drop_set_id(node, self.files.data(node, write=True).fd, ctx)

        async def allocate() -> None:
            fd = self.files.data(node, write=True).fd
            if length <= _INLINE:
                fallocate(fd, mode, offset, length)
            else:
                await _elsewhere(lambda own: fallocate(own, mode, offset, length), fd)

        try:
            await loop.with_room(allocate)
        except OSError:
            self.changed(node)  # ext4 leaves the file as long as it got
            raise
        finally:
            node.attr = None

    async def _lseek(self, node: Node, body: bytes) -> bytes:
        """Find data or a hole, for SEEK_DATA and SEEK_HOLE; the rest the kernel does itself.

        A program that maps a file writes to pages that we have not seen. So before a hole is
        reported the kernel is made to send them, which it does for an invalidation; a file without
        holes, the usual case, is answered at once.

        Where that cannot be had a file is said to have no holes (lseek(2)).
        """
        _, offset, whence, _ = _LSEEK_IN.unpack_from(body)
        fd = self.files.data(node, write=False).fd
        if self.upper is not None and _has_hole(fd, offset):
            if not await self.flush_maps(node):
                return _LSEEK_OUT.pack(_without_holes(fd, offset, whence))
            fd = self.files.data(node, write=False).fd
        return _LSEEK_OUT.pack(os.lseek(fd, offset, whence))

    async def _copy_range(self, node: Node, body: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        _, start, number, _, target_start, length, _ = _COPY_IN.unpack_from(body)
        target = self.inodes[number]
        check_write(self.tree, target, target_start)
        await self.own_data(target)
        length = min(length, _PIECE)
        self._drop_set_id(target, self.files.data(target, write=True).fd, ctx)

        def copy(source_fd: int, own_fd: int) -> int:
            return os.copy_file_range(source_fd, own_fd, length, start, target_start)

        async def copy_here_or_elsewhere() -> int:
            fds = self.files.pair(node, target)
            return copy(*fds) if length <= _INLINE else await _elsewhere(copy, *fds)

        try:
            done = await loop.with_room(copy_here_or_elsewhere)
        finally:
            target.attr = None
        return _WRITE_OUT.pack(done, 0)

    async def _ioctl(self, node: Node, body: bytes) -> bytes:
        """Get or set file flags (chattr(1), and projects' quotas); the kernel checks who may.

        Other commands are no filesystem's business: ENOTTY.
        """
        _, _, command, _, size, room = _IOCTL_IN.unpack_from(body)
        if command in READING:
            with self._opened(node) as fd:
                found = flags.shown(self.tree, node, fd, command)
            return _IOCTL_OUT.pack(0, 0, 0, 0) + found[:room]
        if command not in CHANGING:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        upper = await self.copy_up(node)
        wanted = body[_IOCTL_IN.size : _IOCTL_IN.size + size]
        with self._opened(node) as fd:
            flags.change(upper, node, fd, command, wanted)
        self.files.guard(node)
        self.changed(node)
        return _IOCTL_OUT.pack(0, 0, 0, 0)

    def _drop_set_id(self, node: Node, fd: int, ctx: pyfuse3.RequestContext) -> None:
        """Remove the set-id bits of *node*, open on *fd*, if a change by the caller does that.

        For requests of which the kernel does not say so, nor looks afterwards.
        """
        if self.tree.stat_open(fd).st_mode & (stat.S_ISUID | stat.S_ISGID):
            kill = self.killer_in(ctx)
            if kill is not None:
                drop_set_id(self.writer(), fd, kill)
                self.changed(node)

    @contextmanager
    def _opened(self, node: Node) -> Iterator[int]:
        """Give a descriptor of *node*. Of a removed directory it is one of its own: by its name
        another might be found, which was made since.
        """
        if node.kind != stat.S_IFDIR:
            yield self.files.data(node, write=False).fd
        elif not node.dead:
            yield self.tree.ready(node)[0].fd()
        else:
            fd = self.tree.open(node, os.O_RDONLY | os.O_DIRECTORY)
            try:
                yield fd
            finally:
                os.close(fd)


def _has_hole(fd: int, offset: int) -> bool:
    """Return whether there is a hole in *fd* from *offset* (bytes) to its end."""
    try:
        return os.lseek(fd, offset, os.SEEK_HOLE) < os.fstat(fd).st_size
    except OSError as error:
        if error.errno == errno.ENXIO:  # at or beyond the end, where no page can be
            return False
        raise


def _without_holes(fd: int, offset: int, whence: int) -> int:
    """Answer as a filesystem that knows no holes; *offset* (bytes) is before the end of *fd*."""
    return offset if whence == os.SEEK_DATA else os.fstat(fd).st_size


async def _elsewhere(work: Callable[..., T], *fds: int) -> T:
    """Run *work* on duplicates of *fds* in a thread: the originals may be closed meanwhile."""
    own: list[int] = []
    try:
        for fd in fds:
            own.append(os.dup(fd))  # one by one: the second may fail
        return await threads.run(work, *own)
    finally:
        for fd in own:
            os.close(fd)
