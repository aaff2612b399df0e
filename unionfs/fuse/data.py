"""Request handlers about open files and their content."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from functools import partial

import trio
from pyfuse3 import FileInfo, FUSEError, RequestContext

from unionfs.fuse import loop, native, threads
from unionfs.fuse.guard import answers, answers_later, failure
from unionfs.fuse.state import State
from unionfs.syscalls.publish import sync_filesystem
from unionfs.syscalls.synctree import sync_files
from unionfs.union.node import Node
from unionfs.union.protection import check_change, check_write
from unionfs.upper.attributes import IsMember, drop_set_id, truncate, write_back
from unionfs.upper.copyup import Cut

_CLOSED_S = 0.005  # after which the kernel has closed a file; if not, it is kept for a while


class DataHandlers(State):
    """The part of ``Operations`` that is about open files."""

    @answers_later
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """Open a file; for writing, its copy in the upper, which is made if need be.

        The kernel has checked permissions and handles O_APPEND, O_EXCL and O_NOFOLLOW itself;
        O_TRUNC comes along, so that a copy-up need not copy what goes anyway.
        """
        if self.files.by_node:
            raise FUSEError(errno.ENOSYS)
        node = self.inodes[inode]
        write = flags & 3 != os.O_RDONLY
        if write or flags & os.O_TRUNC:
            appends = flags & os.O_APPEND and not flags & os.O_TRUNC
            check_change(self.tree, node, appends=bool(appends))
        if flags & os.O_TRUNC:
            handle = await self._open_cut(node, flags, kill=self.killer_in(ctx))
        else:
            if write:
                await self.own_data(node)
            handle = self.files.open(node, write=write, flags=flags)
        passing = self.files.passing
        if passing is None:
            return FileInfo(fh=handle, keep_cache=not self.record)
        if write and node.file.backing:
            await self._hand_over(node, handle, settle=passing.must_settle(node))
        return FileInfo(fh=handle, keep_cache=passing.keeps_pages(node))

    async def _hand_over(self, node: Node, handle: int, *, settle: bool) -> None:
        """Get ready for the kernel's writing *node* by itself, as opened with *handle*.

        From now on it is told to ask for attributes each time (``Inodes``): what is written through
        a map changes them, and nobody hears of it.
        """
        try:
            if settle:
                await self._settle(node)
        except BaseException:
            self.files.close(handle)
            raise
        self.changed(node)

    async def _open_cut(self, node: Node, flags: int, *, kill: IsMember | None) -> int:
        """Return a handle of *node*, emptied. Of a lower file the descriptor comes before the
        copy-up, which replaces it: afterwards there may be none, and the content is gone.

        The kernel drops its pages when it has our answer. It may send one that was written through
        a map until then, and the old content would be there again; so it has to send all before.
        """
        if node.file is not None and node.file.writable:
            await self.flush_maps(node)
        lower = node.source is not None
        if not lower:
            await self.own_data(node)
        handle = self.files.open(node, write=not lower, flags=flags)
        try:
            cut = Cut(0, kill=kill)
            await self.copy_up(node, cut=cut)
            if not cut.made:
                await self.own_data(node)
                truncate(self.writer(), self.files.data(node, write=True).fd, 0, kill=kill)
        except BaseException:
            self.files.close(handle)
            raise
        self.changed(node)  # set-id bits may be gone, which the kernel does not think of
        return self.files.passed(handle, flags)

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
        kill, mapped = self.killer(), native.mapped()
        file = node.file
        if file is None or not file.writable:
            check_write(self.tree, node, off)
            await self.own_data(node)
            file = self.files.data(node, write=True)
        if file.appends and off != os.fstat(file.fd).st_size:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        node.attr = None
        drops = kill is not None or (self.overrides and not mapped)
        if drops and drop_set_id(self.writer(), file.fd, kill):
            # The kernel goes by the mode that it knows until it asks for attributes again, and
            # would run what a stranger wrote with the rights of the file's owner.
            self.changed(node)
        pwrite = write_back if mapped else os.pwrite
        try:
            done = pwrite(file.fd, buf, off)
        except OSError as error:
            if error.errno not in loop.FULL:
                raise
            done = 0
        return done if done == len(buf) else await self._write_rest(node, off, buf, done, pwrite)

    async def _write_rest(
        self, node: Node, offset: int, data: bytes, done: int, pwrite: Callable[..., int]
    ) -> int:
        """Write *data* but for its first *done* bytes, by *pwrite*; all of it belongs at *offset*.

        Returns how much of *data* is written; an error counts only if nothing is.
        """

        async def write() -> int:
            node.attr = None
            fd = self.files.data(node, write=True).fd
            return pwrite(fd, memoryview(data)[done:], offset + done)

        try:
            while done < len(data):
                done += await loop.with_room(write)
        except OSError:
            if not done:
                raise
        return done

    @answers
    def flush(self, fh: int) -> None:
        """Say that there is nothing to do at close: what a write returned for is written."""
        raise FUSEError(errno.ENOSYS)

    @answers
    def release(self, fh: int) -> None:
        """Close a file.

        The kernel tells us before it has closed it itself, and looks as if it were mapped then.
        """
        if self.files.by_node:
            return
        left = self.files.close(fh)
        if left is not None:
            trio.lowlevel.spawn_system_task(self._find_unmapped, left)

    async def _find_unmapped(self, node: Node) -> None:
        """``Files.look_again``, later; the answer does not wait for that. Of these requests, and
        those that read ahead, the kernel has but a dozen under way (max_background).
        """
        try:
            await trio.sleep(_CLOSED_S)
            self.files.look_again(node)
        except Exception as error:
            failure(error, "release")

    async def look_at_maps(self) -> None:
        """Look at all files that may be mapped only, once the kernel has closed them."""
        if self.files.passing is not None:
            await trio.sleep(_CLOSED_S)
            self.files.look_again_at_all()

    @answers_later
    async def fsync(self, fh: int, datasync: bool) -> None:
        """Bring a file's content to the disk. A file of a lower layer is there already.

        The first time always by fsync(2), which journals the names that lead there too: the file
        may be a copy whose rename into the upper is in memory only, and fdatasync(2) would leave it
        there. After a power loss the lower file, with the old content, would show again.
        """
        node = self.node_of(fh)
        if self.upper is None or self.upper.volatile or node.source is not None:
            return
        await self._settle(node, os.fdatasync if datasync and node.settled else os.fsync)

    async def _settle(self, node: Node, sync: Callable[[int], None] = os.fsync) -> None:
        file = self.files.data(node, write=False)
        synced = file.fd
        await _sync(os.dup(synced), sync)
        if node.file is file and file.fd == synced:
            node.settled = True

    @answers_later
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Bring a directory's names to the disk; always by fsync(2), as it may be a copy.

        With a symbolic link the name is all that a program can sync. Where the link is a file, its
        text is that file's content: then everything on the filesystem is synced, or each link of
        the directory where that cannot be had. Rejected: to sync each link when it is made, as a
        program that unpacks thousands asked for none of it.
        """
        node = self.dir_of(fh)
        if self.upper is None or self.upper.volatile or node.dead or not node.in_upper:
            return
        upper, made = self.upper, self.upper.links_made
        sync: Callable[[int], None] = os.fsync
        if made != upper.links_settled:
            sync = sync_filesystem if upper.syncs_all else partial(sync_files, self._links(node))
        await _sync(os.dup(node.parts[0].fd()), sync)
        if upper.syncs_all:
            upper.links_settled = max(upper.links_settled, made)

    def _links(self, node: Node) -> list[bytes]:
        """Return the names in the directory *node* that are symbolic links in the upper."""
        children = self.tree.load(node).items()
        return [n for n, child in children if child.kind == stat.S_IFLNK and child.source is None]


async def _sync(fd: int, sync: Callable[[int], None]) -> None:
    """Call *sync* with *fd*, which is ours alone, in a thread; close it."""
    try:
        await threads.run(sync, fd)
    finally:
        os.close(fd)
