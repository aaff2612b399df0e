"""Request handlers about what an inode says: attributes, links' targets, xattrs, statfs."""

from __future__ import annotations

import errno
import os
import stat

from pyfuse3 import (
    EntryAttributes,
    FUSEError,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from unionfs.fuse import native
from unionfs.fuse.caller import in_group, may, may_keep_set_id
from unionfs.fuse.carried import CarriedHandlers
from unionfs.fuse.data import drop_set_id
from unionfs.fuse.guard import answers, answers_later
from unionfs.ondisk.flavour import FUSE_OVERLAYFS_PREFIX
from unionfs.syscalls import xattr
from unionfs.syscalls.capability import CAP_FOWNER, CAP_SYS_ADMIN
from unionfs.union.node import Node
from unionfs.upper import attributes
from unionfs.upper.create import DEFAULT_ACL
from unionfs.upper.upper import Upper

_ACCESS_ACL = b"system.posix_acl_access"
_ACLS = (_ACCESS_ACL, DEFAULT_ACL)
_STATFS = (
    "f_bsize",
    "f_frsize",
    "f_blocks",
    "f_bfree",
    "f_bavail",
    "f_files",
    "f_ffree",
    "f_favail",
    "f_namemax",
)


class MetadataHandlers(CarriedHandlers):
    """The part of ``Operations`` that is about inodes."""

    @answers
    def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        """Answer with attributes."""
        return self.inodes.attributes(self.inodes[inode])

    @answers_later
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Change attributes; the kernel has checked that the caller may (default_permissions)."""
        node = self.inodes[inode]
        size = attr.st_size if fields.update_size else None
        kill = native.kills_privileges()
        owner = fields.update_uid or fields.update_gid
        times = fields.update_atime or fields.update_mtime
        if not (owner or times or fields.update_mode or size is not None):
            return await self._chown_to_the_same(node, ctx)
        upper = self.upper
        if upper is None or node.source is not None or node.kind == stat.S_IFDIR:
            upper = await self.copy_up(node, keep=size)
        if size is not None:
            await self.own_data(node)
            self._truncate(node, size, kill=kill)
        if owner:
            uid = attr.st_uid if fields.update_uid else -1
            gid = attr.st_gid if fields.update_gid else -1
            attributes.chown(upper, node, uid, gid)
        if fields.update_mode:
            attributes.chmod(upper, node, stat.S_IMODE(attr.st_mode))
        if times:
            self._set_times(upper, node, attr, fields)
        node.attr = None
        return self.inodes.attributes(node)

    async def _chown_to_the_same(self, node: Node, ctx: RequestContext) -> EntryAttributes:
        """Do what chown(-1, -1) does: ctime moves, capabilities and set-id bits go.

        The kernel sends the same before a write that takes set-id bits, and lets everybody ask: who
        may not chmod takes none, and moves nothing.
        """
        self.writer()
        st = self.tree.stat(node)
        set_id = not node.is_dir and st.st_mode & (stat.S_ISUID | stat.S_ISGID)
        if not set_id or ctx.uid == st.st_uid or may(ctx, CAP_FOWNER):
            upper = await self.copy_up(node)
            attributes.chown(upper, node, -1, -1)
        return self.inodes.attributes(node)

    def _truncate(self, node: Node, size: int, *, kill: bool) -> None:
        file = node.file
        fd = file.fd if file is not None and file.writable else self.tree.open(node, os.O_WRONLY)
        try:
            os.ftruncate(fd, size)
            if kill:
                drop_set_id(fd)
        finally:
            if file is None or fd != file.fd:
                os.close(fd)

    def _set_times(
        self, upper: Upper, node: Node, attr: EntryAttributes, fields: SetattrFields
    ) -> None:
        """Set the times that are asked for; utimensat's UTIME_OMIT is not to be had from os."""
        atime, mtime = attr.st_atime_ns, attr.st_mtime_ns
        if not (fields.update_atime and fields.update_mtime):
            st = self.tree.stat(node)
            atime = atime if fields.update_atime else st.st_atime_ns
            mtime = mtime if fields.update_mtime else st.st_mtime_ns
        attributes.utime(upper, node, atime, mtime)

    @answers
    def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        """Answer with a symbolic link's target."""
        node = self.inodes[inode]
        if node.anchor >= 0:
            return os.readlink(b"", dir_fd=node.anchor)
        directory, name = self.tree.place(node)
        return os.readlink(name, dir_fd=directory)

    @answers
    def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Answer for the filesystem that changes go to (of a read-only mount: the top layer's)."""
        found = os.fstatvfs(self.tree.layers[0].root.fd())
        answer = StatvfsData()
        for field in _STATFS:
            setattr(answer, field, getattr(found, field, 0))
        answer.f_namemax = found.f_namemax
        return answer

    @answers_later
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        """Answer with an attribute's value, or ENODATA; or answer what comes in this form."""
        if name == native.CARRIER and (asked := native.carried()) is not None:
            return await self.carried(self.inodes[inode], *asked, ctx)
        if name.startswith(FUSE_OVERLAYFS_PREFIX):
            raise FUSEError(errno.ENODATA)
        value = xattr.get(self.tree.target(self.inodes[inode]), self._on_disk(name))
        if value is None:
            raise _missing(name)
        return value

    @answers
    def listxattr(self, inode: int, ctx: RequestContext) -> list[bytes]:
        """Answer with the names of attributes, the driver's own left out."""
        flavour = self.tree.layers[0].flavour
        shown = []
        for name in xattr.names(self.tree.target(self.inodes[inode])):
            public = flavour.from_disk(name)
            if public is not None and not public.startswith(FUSE_OVERLAYFS_PREFIX):
                shown.append(public)
        if any(map(_is_trusted, shown)) and not _sees_trusted(ctx):
            shown = [name for name in shown if not _is_trusted(name)]
        return shown

    @answers_later
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        """Set an attribute; EPERM for fuse-overlayfs's own, which the next mount would obey.

        What XATTR_CREATE or XATTR_REPLACE refuses does not copy the file up.
        """
        flags = native.xattr_flags()
        if name.startswith(FUSE_OVERLAYFS_PREFIX):
            raise FUSEError(errno.EPERM)
        node = self.inodes[inode]
        self.writer()
        if flags:
            there = xattr.get(self.tree.target(node), self._on_disk(name)) is not None
            if there and flags & os.XATTR_CREATE:
                raise FUSEError(errno.EEXIST)
            if not there and flags & os.XATTR_REPLACE:
                raise FUSEError(errno.ENODATA)
        upper = await self.copy_up(node)
        attributes.set_xattr(upper, node, name, value, flags)
        if name == _ACCESS_ACL:
            self._drop_foreign_group(upper, node, ctx)
        if name == DEFAULT_ACL and node.is_dir:
            upper.part(node).default_acl = None

    def _drop_foreign_group(self, upper: Upper, node: Node, ctx: RequestContext) -> None:
        """Remove set-group-ID after a new ACL by one who is not in the group (posix_acl(5))."""
        st = self.tree.stat(node)
        foreign = st.st_mode & stat.S_ISGID and not in_group(ctx, st.st_gid)
        if foreign and not may_keep_set_id(ctx):
            attributes.chmod(upper, node, stat.S_IMODE(st.st_mode) & ~stat.S_ISGID)

    @answers_later
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        """Remove an attribute; ENODATA if there is none, without a copy-up."""
        if name.startswith(FUSE_OVERLAYFS_PREFIX):
            raise FUSEError(errno.ENODATA)
        node = self.inodes[inode]
        self.writer()
        if xattr.get(self.tree.target(node), self._on_disk(name)) is None:
            if name in _ACLS:
                return  # there is always one: the mode (acl(5))
            raise _missing(name)
        upper = await self.copy_up(node)
        attributes.remove_xattr(upper, node, name)
        if name == DEFAULT_ACL and node.is_dir:
            upper.part(node).default_acl = None

    def _on_disk(self, name: bytes) -> bytes:
        """Return what the attribute that users of the mount call *name* is called in the layers."""
        return self.tree.layers[0].flavour.to_disk(name)


def _missing(name: bytes) -> FUSEError:
    """Return the answer for the attribute *name* that is not there (xattr(7)).

    Names without a namespace are not supported, nor are ``system.`` ones but the ACLs.
    """
    known = name.startswith((b"user.", b"trusted.", b"security.", *_ACLS))
    return FUSEError(errno.ENODATA if known else errno.EOPNOTSUPP)


def _is_trusted(name: bytes) -> bool:
    return name.startswith(b"trusted.")


def _sees_trusted(ctx: RequestContext) -> bool:
    """Return whether ``trusted.*`` is listed for a caller: only for one with CAP_SYS_ADMIN."""
    return may(ctx, CAP_SYS_ADMIN)
