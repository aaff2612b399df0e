"""Request handlers about open files and their content."""

from __future__ import annotations

import errno
import os
import stat

import trio
from pyfuse3 import FileInfo, FUSEError, RequestContext

from unionfs.fuse import loop, native
from unionfs.fuse.caller import may_keep_set_id
from unionfs.fuse.guard import answers, answers_later
from unionfs.fuse.state import State


class DataHandlers(State):
    """The part of ``Operations`` that is about open files."""

    @answers_later
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """Open a file; for writing, its copy in the upper, which is made if need be.

        The kernel has checked permissions and handles O_APPEND, O_EXCL and O_NOFOLLOW itself;
        O_TRUNC comes along, so that a copy-up need not copy what goes anyway.
        """
        if self.by_node:
            raise FUSEError(errno.ENOSYS)
        node = self.inodes[inode]
        truncate = bool(flags & os.O_TRUNC)
        write = truncate or flags & 3 != os.O_RDONLY
        kill = truncate and not may_keep_set_id(ctx)
        if write and (node.source is not None or self.upper is None):
            await self.copy_up(node, keep=0 if truncate else None)
        elif write:
            await self.own_data(node)
        handle = self.files.open(node, write=write)
        if truncate:
            try:
                os.ftruncate(node.file.fd, 0)
                if kill:
                    drop_set_id(node.file.fd)
            except OSError:
                self.files.close(handle)
                raise
            node.attr = None
        return FileInfo(fh=handle, keep_cache=True)

    @answers
    def read(self, fh: int, off: int, size: int) -> bytes:
        """Read up to *size* bytes at *off*."""
        node = self.node_of(fh)
        file = node.file
        if file is None:
            file = self.files.data(node, write=False)
        return os.pread(file.fd, size, off)

    @answers_later
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """Write *buf* at *off*; the count is what was written before an error, if anything was.

        Where opening made no copy-up (``by_node``) the first write does, with its errors.
        """
        node = self.node_of(fh)
        kill = native.kills_privileges()
        file = node.file
        if file is None or not file.writable:
            await self.own_data(node)
            file = self.files.data(node, write=True)
        node.attr = None
        if kill:
            drop_set_id(file.fd)
        return _write_all(file.fd, off, buf)

    @answers
    def flush(self, fh: int) -> None:
        """Say that there is nothing to do at close: what a write returned for is written."""
        raise FUSEError(errno.ENOSYS)

    @answers
    def release(self, fh: int) -> None:
        """Close a file."""
        if not self.by_node:
            self.files.close(fh)

    @answers_later
    async def fsync(self, fh: int, datasync: bool) -> None:
        """Bring a file's content to the disk. A file of a lower layer is there already."""
        node = self.node_of(fh)
        if self.upper is None or self.upper.volatile or node.source is not None:
            return
        await _sync(os.dup(self.files.data(node, write=False).fd), datasync)

    @answers_later
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Bring a directory's names to the disk."""
        node = self.dir_of(fh)
        if self.upper is None or self.upper.volatile or node.dead or not node.in_upper:
            return
        await _sync(os.dup(node.parts[0].fd()), datasync)


def _write_all(fd: int, offset: int, data: bytes) -> int:
    """Write *data*, going on after a short count; return how much was written."""
    done = os.pwrite(fd, data, offset)
    while done < len(data):
        try:
            done += os.pwrite(fd, memoryview(data)[done:], offset + done)
        except OSError:
            break
    return done


def drop_set_id(fd: int) -> None:
    """Remove the set-id bits of a file that somebody without CAP_FSETID changes (write(2)).

    The set-group-ID bit counts as one only with group execution. Capabilities are removed by the
    upper's filesystem, whoever writes.
    """
    mode = os.fstat(fd).st_mode
    kept = mode & ~stat.S_ISUID
    if mode & stat.S_IXGRP:
        kept &= ~stat.S_ISGID
    if kept != mode:
        os.fchmod(fd, stat.S_IMODE(kept))


async def _sync(fd: int, datasync: bool) -> None:
    """Sync *fd*, which is ours alone, in a thread; close it."""
    try:
        with loop.waiting():
            await trio.to_thread.run_sync(os.fdatasync if datasync else os.fsync, fd)
    finally:
        os.close(fd)
