"""Request handlers that change names: making, linking, removing and renaming files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, RequestContext

from unionfs.fuse import native
from unionfs.fuse.callers import Caller
from unionfs.fuse.guard import again_when_full, answers_later
from unionfs.fuse.names import NameHandlers
from unionfs.union.node import Node
from unionfs.union.protection import check_change, check_gets, check_loses
from unionfs.upper import create, remove
from unionfs.upper.create import Owner
from unionfs.upper.holding import nothing_to_tell
from unionfs.upper.rename import check_types, rename
from unionfs.upper.upper import Upper

_MODE = 0o7777


class ChangeHandlers(NameHandlers):
    """The part of ``Operations`` that changes names in directories."""

    def owner(self, ctx: Caller) -> Owner:
        """Return who owns what the caller makes, in the mount."""
        return Owner(ctx.uid, ctx.gid)

    def _maker(self, ctx: Caller) -> Owner:
        """Return who owns what the caller makes, on disk."""
        owner = self.owner(ctx)
        return owner if self.owners is None else self.owners.maker(owner)

    def _parent(self, inode: int) -> tuple[Upper, Node]:
        """Return the upper, and the directory *inode* brought into it, for a change of names."""
        upper = self.writer()
        parent = self.inodes[inode]
        self._changes(upper, parent)
        return upper, parent

    def _changes(self, upper: Upper, parent: Node) -> None:
        """Bring *parent* into the upper for a change of its names, if it can have any."""
        if parent.dead:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        check_gets(self.tree, parent)
        self.copy_up_dir(upper, parent)
        parent.attr = None
        if parent.listing is not None:
            parent.listing.touch()

    def _show(self, parent: Node, name: bytes, node: Node, fd: int = -1) -> EntryAttributes:
        """Answer with the new *name*; should that fail, the kernel must not know it as absent.

        Nor may it keep the attributes that *node* (its count of links) and *parent* had before.
        *fd* as for ``Inodes.enter``.
        """
        try:
            node = self.inodes.enter(parent, name, node, fd)
        except BaseException:
            self._not_shown(parent, name, node)
            raise
        self.inodes.shown(node)
        return node.attr  # type: ignore[no-any-return]

    def _not_shown(self, parent: Node, name: bytes, node: Node) -> None:
        self.changed(node)
        self.changed(parent)
        pyfuse3.invalidate_entry_async(parent.ino, name, ignore_enoent=True)

    @answers_later
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """Make and open a regular file, with a name or without (O_TMPFILE)."""
        nameless = native.asks_tmpfile()
        return await self._create(parent_inode, None if nameless else name, mode, flags, ctx)

    @again_when_full
    async def _create(
        self, parent_inode: int, name: bytes | None, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        upper, parent = self._parent(parent_inode)
        owner = self._maker(ctx)
        mode = _masked(upper, parent, mode & _MODE, ctx)
        if name is None:
            node, fd = create.make_nameless(upper, parent, mode, owner)
        else:
            node, fd = create.create_file(upper, parent, name, mode, owner)
        try:
            attr = self._show_nameless(node) if name is None else self._show(parent, name, node, fd)
            handle = self.files.adopt(node, fd, flags)
            attr.attr_timeout = self.inodes.validity(node)
        except BaseException:
            os.close(fd)
            raise
        return FileInfo(fh=handle, keep_cache=True), attr

    def create_file(
        self,
        parent_inode: int,
        name: bytes,
        mode: int,
        caller: Caller,
        done: Callable[[int, int, int], None],
    ) -> None:
        """``create``, of a file with a name, where handles are nodes' numbers (``by_node``).

        *done* is told number, generation and descriptor of the file as soon as they are certain.
        """
        upper, parent = self._parent(parent_inode)
        mode = _masked(upper, parent, mode & _MODE, caller)
        node, fd = create.create_file(upper, parent, name, mode, self._maker(caller))
        try:
            self.inodes.begin(node, fd)
            self.inodes.shown(node)
            done(node.ino, node.generation, fd)
            self.files.adopt(node, fd, 0)
        except BaseException:
            self._not_shown(parent, name, node)
            os.close(fd)
            raise

    def _show_nameless(self, node: Node) -> EntryAttributes:
        try:
            self.inodes.attributes(node)
        except BaseException:
            os.close(node.anchor)  # which FORGET does of one that the kernel knows
            raise
        self.inodes.shown(node)
        return node.attr  # type: ignore[no-any-return]

    @answers_later
    @again_when_full
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        """Make a directory."""
        upper, parent = self._parent(parent_inode)
        mode = _masked(upper, parent, mode & _MODE, ctx)
        node = create.make_dir(upper, parent, name, mode, self._maker(ctx))
        return self._show(parent, name, node)

    @answers_later
    @again_when_full
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        """Make a device, fifo, socket or regular file; EPERM for what would be a whiteout."""
        create.check_device(mode, rdev)
        upper, parent = self._parent(parent_inode)
        owner = self._maker(ctx)
        mode = _masked(upper, parent, mode, ctx)
        node = create.make_special(upper, parent, name, mode, rdev, owner)
        return self._show(parent, name, node)

    @answers_later
    @again_when_full
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """Make a symbolic link."""
        upper, parent = self._parent(parent_inode)
        node = create.make_symlink(upper, parent, name, target, self._maker(ctx))
        return self._show(parent, name, node)

    @answers_later
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """Give a file another name.

        Not ``again_when_full``: a file without a name gets its first only once, and one in work
        that has to go again counts (fs/namei.c, vfs_link(), I_LINKABLE).
        """
        node = self.inodes[inode]
        create.check_name(new_name)
        check_gets(self.tree, self.inodes[new_parent_inode])
        check_change(self.tree, node)
        await self.own_data(node)  # where it is may follow from a name that it has already
        upper, parent = self._parent(new_parent_inode)
        create.make_link(upper, node, parent, new_name)
        self.files.names_changed(node)
        return self._show(parent, new_name, node)

    @answers_later
    @again_when_full
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """Remove a name that is no directory's."""
        while (node := self.remove_name(parent_inode, name)) is not None:
            await self.copy_up(node)

    def remove_name(
        self, parent_inode: int, name: bytes, done: Callable[[], None] = nothing_to_tell
    ) -> Node | None:
        """Remove a name that is no directory's, unless its file has to be copied up first.

        Which it then returns: a lower file's other names go on counting right (``upper.index``).
        *done* is called as soon as the name is gone.
        """
        parent = self.inodes[parent_inode]
        node = self._child(parent, name)
        check_loses(self.tree, parent, node)
        if node.kind == stat.S_IFDIR:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if node.source is not None and node.identity in self.tree.links:
            return node
        upper = self.writer()
        self._changes(upper, parent)
        self.settle()
        file = node.file
        fd = file.fd if file is not None and file.writable else -1
        remove.unlink(upper, parent, name, fd=fd, done=done)
        self.files.names_changed(node)
        return None

    @answers_later
    @again_when_full
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """Remove an empty directory."""
        self.remove_dir(parent_inode, name)

    def remove_dir(
        self, parent_inode: int, name: bytes, done: Callable[[], None] = nothing_to_tell
    ) -> None:
        """``rmdir``, whoever asks. *done* is called as soon as the name is gone."""
        upper = self.writer()
        parent = self.inodes[parent_inode]
        node = self._child(parent, name)
        check_loses(self.tree, parent, node)
        if not node.is_dir:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        remove.check_empty(upper, node)
        self._changes(upper, parent)
        native.unshare_dir(node.ino)
        self.settle()
        remove.rmdir(upper, parent, name, done=done)

    @answers_later
    @again_when_full
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        """Rename, with RENAME_NOREPLACE and RENAME_EXCHANGE."""
        source, target = self._moving(parent_inode_old, name_old, parent_inode_new, name_new, flags)
        same_parent = parent_inode_old == parent_inode_new
        whole = await self._prepare(source, target, flags, same_parent=same_parent)
        upper, old = self._parent(parent_inode_old)
        new = old if same_parent else self._parent(parent_inode_new)[1]
        self.settle()
        if source.is_dir or (target is not None and target.is_dir):
            native.unshare_dirs()  # one may be replaced, or cut off from its lower parts
            try:
                rename(upper, old, name_old, new, name_new, flags)
            finally:
                self.files.catch_up()
                for node in whole:
                    self.changed_below(node)
        else:
            rename(upper, old, name_old, new, name_new, flags)
        if target is not None:
            self.files.names_changed(target)
        await self._directory_moved(source, old)
        if target is not None and flags & pyfuse3.RENAME_EXCHANGE:
            await self._directory_moved(target, new)

    def _moving(
        self, parent_old: int, name_old: bytes, parent_new: int, name_new: bytes, flags: int
    ) -> tuple[Node, Node | None]:
        """Return what a rename moves, and what is at the new name; if it may be. Raises OSError."""
        if flags & ~(pyfuse3.RENAME_EXCHANGE | pyfuse3.RENAME_NOREPLACE):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        old, new = self.inodes[parent_old], self.inodes[parent_new]
        source = self._child(old, name_old)
        target = self.tree.lookup(new, name_new)
        if target is not None:
            target = self._child(new, name_new)
        if target is not source:
            check_loses(self.tree, old, source)
            check_gets(self.tree, new)
            if target is not None:
                check_loses(self.tree, new, target)
        create.check_name(name_new)
        return source, target

    def rename_file(
        self,
        parent_old: int,
        name_old: bytes,
        parent_new: int,
        name_new: bytes,
        done: Callable[[], None],
    ) -> bool:
        """Rename a file of the upper's own, if nothing has to be copied up for that.

        To a free name or one that is replaced. Returns False where ``rename`` has more to do.
        *done* is called as soon as it has its new name.
        """
        source, target = self._moving(parent_old, name_old, parent_new, name_new, 0)
        if source.is_dir or source.source is not None or not source.unmarked:
            return False
        if target is not None and (target.is_dir or target.identity in self.tree.links):
            return False
        upper, old = self._parent(parent_old)
        new = old if parent_old == parent_new else self._parent(parent_new)[1]
        self.settle()
        rename(upper, old, name_old, new, name_new, done=done)
        if target is not None:
            self.files.names_changed(target)
        return True

    async def _prepare(
        self, source: Node, target: Node | None, flags: int, *, same_parent: bool
    ) -> list[Node]:
        """Copy up what a rename needs; return the directories that it will have all of in the upper
        and cut off from their lower parts.
        """
        if target is not None and flags & pyfuse3.RENAME_EXCHANGE:
            moved = [source, target]
        elif target is not None and flags:
            return []  # ``rename`` refuses it
        else:
            if target is not None:
                await self._make_room(source, target)
            if source.source is None and source.unmarked and not source.is_dir:
                return []  # a file of the upper's own: nothing goes with it
            moved = [source]
        return [node for node in moved if await self.make_movable(node, same_parent=same_parent)]

    async def _make_room(self, source: Node, target: Node) -> None:
        """See that *source* may replace *target*, and copy that up if other names of it stay."""
        upper = self.writer()
        if target is source:
            return
        check_types(upper, source, target)
        if not target.is_dir and target.identity in self.tree.links:
            await self.own_data(target)

    async def _directory_moved(self, node: Node, old: Node) -> None:
        """A directory that was copied up to be moved shows other attributes than it did, and what
        the kernel has of its listing the number of *old*, its parent, for ``..``.
        """
        if node.is_dir:
            self.changed(node)
            if node.parent is not old:
                self.inodes.lending.moved(node)
                await self.forget_listing(node)


def _masked(upper: Upper, parent: Node, mode: int, ctx: Caller) -> int:
    """Return *mode* (octal) less the caller's umask, which an inherited ACL replaces (umask(2)).

    Without the extension the kernel has applied it already, ACL or not.
    """
    if not ctx.umask or create.inherits_acl(upper.part(parent)):
        return mode
    return mode & ~ctx.umask
