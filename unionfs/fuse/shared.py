"""A mount by an ordinary user that lets others in (``allow_other``): who may do what.

The kernel asks for no permission there (``rooted``), so every request of somebody else is checked
here by the rules of a local filesystem. Only who may set an ACL is the kernel's to say. It must not
remember names, or it would walk over them without asking us: ``SharedInodes``. Attributes and
content it remembers as everywhere.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileInfo,
    RequestContext,
    SetattrFields,
)

from unionfs.fuse import native
from unionfs.fuse.guard import answers
from unionfs.fuse.inodes import Inodes
from unionfs.fuse.permission import (
    READ,
    SEARCH,
    WRITE,
    caller,
    denied,
    links_are_protected,
    may,
    not_permitted,
)
from unionfs.fuse.rooted import RootedOperations
from unionfs.ondisk import acl
from unionfs.syscalls import xattr
from unionfs.union.node import Node
from unionfs.union.tree import Tree
from unionfs.upper.upper import Upper

_FMODE_EXEC = 0x20  # linux/fs.h, among the flags of an open for execve(2)
_CHANGE = WRITE | SEARCH  # of a directory whose names change
_TOUCH_NS = 1_000_000_000  # a time so close to now is one that whoever may write can set


class SharedInodes(Inodes):
    """As ``Inodes``; the kernel remembers no name.

    It would not ask us who may search when it walks over one that it remembers, and it cannot be
    told in time when a directory is closed to some, or a file moved into such a one.
    """

    def _fill(self, node: Node, st: os.stat_result) -> None:
        super()._fill(node, st)
        node.attr.entry_timeout = 0


class SharedOperations(RootedOperations):
    """``RootedOperations`` with everybody else kept to what he may."""

    shared = True

    def __init__(self, tree: Tree, upper: Upper | None, *, read_only: bool = False) -> None:
        super().__init__(tree, upper, read_only=read_only)
        self.inodes = SharedInodes(tree, upper)
        self._absent.entry_timeout = 0

    def _has(self, node: Node, ctx: RequestContext, want: int) -> bool:
        if self.is_root(ctx):
            return True
        name = self.tree.names_of(node).to_disk(acl.ACCESS)
        found = xattr.get(self.tree.target(node), name) if self.acl else None
        if found is not None and self.owners is not None:
            found = self.owners.shown_value(acl.ACCESS, found)
        return may(caller(ctx), self.inodes.attributes(node), found, want)

    @answers
    def _require(self, inode: int, ctx: RequestContext, want: int) -> None:
        """Raise EACCES unless the caller has *want* on the file *inode*."""
        if not self._has(self.inodes[inode], ctx, want):
            raise denied()

    @answers
    def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        """Answer access(2)."""
        node = self.inodes[inode]
        if self.is_root(ctx):
            attr = self.inodes.attributes(node)
            return bool(attr.st_mode & 0o111) or node.is_dir or not mode & os.X_OK
        return self._has(node, ctx, mode & 7)

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Look a name up for who may search."""
        await self._require(parent_inode, ctx, SEARCH)
        return await super().lookup(parent_inode, name, ctx)

    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        """Open a directory for who may read it."""
        await self._require(inode, ctx, READ)
        return await super().opendir(inode, ctx)

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """Open a file for who may do with it what he opens it for."""
        wants = {os.O_RDONLY: READ, os.O_WRONLY: WRITE, os.O_RDWR: READ | WRITE}
        want = wants.get(flags & os.O_ACCMODE, READ | WRITE)
        if flags & _FMODE_EXEC:
            want = SEARCH
        await self._require(inode, ctx, want | WRITE if flags & os.O_TRUNC else want)
        return await super().open(inode, flags, ctx)

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """Make and open a file."""
        await self._require(parent_inode, ctx, _CHANGE)
        return await super().create(parent_inode, name, mode, flags, ctx)

    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        """Make a directory."""
        await self._require(parent_inode, ctx, _CHANGE)
        return await super().mkdir(parent_inode, name, mode, ctx)

    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        """Make a special file."""
        await self._require(parent_inode, ctx, _CHANGE)
        return await super().mknod(parent_inode, name, mode, rdev, ctx)

    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """Make a symbolic link."""
        await self._require(parent_inode, ctx, _CHANGE)
        return await super().symlink(parent_inode, name, target, ctx)

    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """Give a file another name."""
        await self._require_linkable(inode, ctx)  # the kernel, too, asks that first
        await self._require(new_parent_inode, ctx, _CHANGE)
        return await super().link(inode, new_parent_inode, new_name, ctx)

    @answers
    def _require_linkable(self, inode: int, ctx: RequestContext) -> None:
        """Raise EPERM for what ``fs.protected_hardlinks`` protects (proc(5)).

        The kernel does, but for files that the caller may not read and write: whether he may, it
        does not ask.
        """
        node = self.inodes[inode]
        if self.acts_as(self.inodes.attributes(node).st_uid, ctx):
            return
        if links_are_protected() and not self._has(node, ctx, READ | WRITE):
            raise not_permitted()

    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """Remove a name."""
        await self._require_removable(parent_inode, name, ctx)
        await super().unlink(parent_inode, name, ctx)

    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """Remove a directory."""
        await self._require_removable(parent_inode, name, ctx)
        await super().rmdir(parent_inode, name, ctx)

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        """Rename; a directory that gets another parent must be writable itself (rename(2))."""
        await self._require_removable(parent_inode_old, name_old, ctx)
        await self._require_removable(parent_inode_new, name_new, ctx)
        if parent_inode_old != parent_inode_new:
            await self._require_movable(parent_inode_old, name_old, ctx)
            if flags & pyfuse3.RENAME_EXCHANGE:
                await self._require_movable(parent_inode_new, name_new, ctx)
        await super().rename(parent_inode_old, name_old, parent_inode_new, name_new, flags, ctx)

    @answers
    def _require_removable(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """Raise unless the caller may make *name*, or remove what has it (unlink(2)).

        From a sticky directory that is for its owner and the file's.
        """
        parent = self.inodes[parent_inode]
        if not self._has(parent, ctx, _CHANGE):
            raise denied()
        attr = self.inodes.attributes(parent)
        if not attr.st_mode & stat.S_ISVTX or self.acts_as(attr.st_uid, ctx):
            return
        if self.tree.lookup(parent, name) is not None:
            node = self._child(parent, name)
            if self.inodes.attributes(node).st_uid != ctx.uid:
                raise not_permitted()

    @answers
    def _require_movable(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        node = self._child(self.inodes[parent_inode], name)
        if node.is_dir and not self._has(node, ctx, WRITE):
            raise denied()

    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Change what the caller may change."""
        await self._require_settable(inode, attr, fields, fh, ctx)
        return await super().setattr(inode, attr, fields, fh, ctx)

    @answers
    def _require_settable(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> None:
        """Raise EPERM or EACCES unless the caller may change *fields* (setattr_prepare())."""
        if self.is_root(ctx):
            return
        node, who = self.inodes[inode], caller(ctx)
        now = self.inodes.attributes(node)
        mine = who.uid == now.st_uid
        if fields.update_size and fh is None and not self._has(node, ctx, WRITE):
            raise denied()
        if fields.update_uid and not (mine and attr.st_uid == now.st_uid):
            raise not_permitted()
        if fields.update_gid and not (mine and attr.st_gid in (now.st_gid, *who.groups)):
            raise not_permitted()
        if fields.update_mode:
            member = now.st_gid in who.groups
            writes = not native.hooked() and node.kind == stat.S_IFREG
            takes = writes and _takes_set_id(now.st_mode, attr.st_mode, member=member)
            if not mine and not (takes and self._has(node, ctx, WRITE)):
                raise not_permitted()
            if not member:
                attr.st_mode &= ~stat.S_ISGID
        times = [attr.st_atime_ns] * fields.update_atime + [attr.st_mtime_ns] * fields.update_mtime
        if times and not mine and not fields.update_size:
            self._require_touch(node, ctx, times)

    def _require_touch(self, node: Node, ctx: RequestContext, times: Sequence[int]) -> None:
        """Raise unless *times* are both now, which whoever may write can set (utimensat(2))."""
        if len(times) < 2 or any(abs(each - time.time_ns()) > _TOUCH_NS for each in times):
            raise not_permitted()
        if not self._has(node, ctx, WRITE):
            raise denied()

    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        """Answer with an attribute; those of users for who may read the file (xattr(7))."""
        if name.startswith(b"user."):
            await self._require(inode, ctx, READ)
        return await super().getxattr(inode, name, ctx)

    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        """Set an attribute; the kernel has checked the namespaces that are not the users'."""
        if name.startswith(b"user."):
            await self._require_attributes(inode, ctx)
        await super().setxattr(inode, name, value, ctx)

    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        """Remove an attribute."""
        if name.startswith(b"user."):
            await self._require_attributes(inode, ctx)
        await super().removexattr(inode, name, ctx)

    @answers
    def _require_attributes(self, inode: int, ctx: RequestContext) -> None:
        """Raise unless the caller may change attributes of users (xattr_permission()).

        Those of a sticky directory are its owner's.
        """
        node = self.inodes[inode]
        attr = self.inodes.attributes(node)
        is_sticky = node.is_dir and attr.st_mode & stat.S_ISVTX
        if is_sticky and not self.acts_as(attr.st_uid, ctx):
            raise not_permitted()
        if not self._has(node, ctx, WRITE):
            raise denied()


def _takes_set_id(was: int, mode: int, *, member: bool) -> bool:
    """Return whether *mode* is what *was* but for set-id bits that a *member* (or not) takes.

    Without the extension the kernel asks for that before somebody writes, as if he called chmod(2).
    Who may write takes them anyway (setattr_should_drop_suidgid()).
    """
    goes = stat.S_ISUID if member and not was & stat.S_IXGRP else stat.S_ISUID | stat.S_ISGID
    return (was ^ mode) & 0o7777 == was & ~mode & goes != 0
