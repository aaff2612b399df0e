"""Request handlers about what an inode says: attributes, links' targets, xattrs, statfs."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from pyfuse3 import (
    EntryAttributes,
    FUSEError,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from unionfs.fuse import native, told
from unionfs.fuse.callers import capable
from unionfs.fuse.carried import CarriedHandlers
from unionfs.fuse.guard import answers, answers_later
from unionfs.fuse.inodes import by_all_accounts
from unionfs.ondisk.override import MARKS
from unionfs.syscalls import xattr
from unionfs.syscalls.capability import CAP_SYS_ADMIN
from unionfs.union.node import Node
from unionfs.union.protection import check_change
from unionfs.upper import attributes
from unionfs.upper.copyup import Cut
from unionfs.upper.create import DEFAULT_ACL
from unionfs.upper.data import lacks_data
from unionfs.upper.upper import Upper

_ACCESS_ACL = b"system.posix_acl_access"
_ACLS = (_ACCESS_ACL, DEFAULT_ACL)
_SET_ID = stat.S_ISUID | stat.S_ISGID
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
        """Answer with attributes; of a directory that changes, let the extension do so from now."""
        node = self.inodes[inode]
        if node.attr is None and node.kind == stat.S_IFDIR:
            self.share_dir(node)
        return self.inodes.attributes(node)

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
        before = self.inodes.attributes(node)
        cut = None
        if fields.update_size:
            # Of size 0 it may be open(2) with O_TRUNC, which sets times as by a descriptor.
            cut = Cut(attr.st_size, kill=self.killer(), named=fh is None and attr.st_size > 0)
        times = fields.update_atime or fields.update_mtime
        owner = fields.update_uid or fields.update_gid
        touches = times and native.touches()
        if node.protection:
            explicit = owner or fields.update_mode or cut is not None or (times and not touches)
            self.writer()
            check_change(self.tree, node, appends=not explicit)  # touch(1) is no change to it
        if not (owner or times or fields.update_mode or cut is not None):
            await self._chown_to_the_same(node, ctx)
            return self._look_again(node, before, attr, fields)
        if owner and before.st_mode & _SET_ID and self._taken_by_chown(node, ctx):
            self._require_owner(before.st_uid, ctx)
        upper = self.upper
        if upper is None or node.source is not None or node.kind == stat.S_IFDIR:
            upper = await self.copy_up(node, cut=None if fields.update_mode else cut)
        if cut is not None and cut.made:
            times = False  # the kernel's with a truncation are "now", which the copy has
        elif cut is not None:
            await self.own_data(node)
            if fields.update_mode:
                self._truncate_set_id(upper, node, cut, attr.st_mode)
            else:
                self._truncate(node, cut)
        gone = 0
        if owner:
            uid = attr.st_uid if fields.update_uid else -1
            gid = attr.st_gid if fields.update_gid else -1
            if self.owners is not None:
                uid, gid = self.owners.changed(uid, gid)
            gone = self._chown(upper, node, uid, gid, ctx)
        if fields.update_mode and cut is None:
            self._hold_open(upper, node)
            attributes.chmod(upper, node, stat.S_IMODE(attr.st_mode) & ~gone)
        if times:
            await self.copied(node)
        if touches and times:
            attributes.touch(upper, node)
        elif times:
            self._set_times(upper, node, attr, fields)
        node.attr = None
        return self._look_again(node, before, attr, fields)

    def _hold_open(self, upper: Upper, node: Node) -> None:
        """Before permissions of *node* change: see that who has it open can go on with it."""
        if self.files.may_lose():
            self.files.hold_open(node, write=not lacks_data(upper, node))

    def _look_again(
        self, node: Node, before: EntryAttributes, attr: EntryAttributes, fields: SetattrFields
    ) -> EntryAttributes:
        """Answer for *node*, of which the *fields* of *attr* were changed.

        That is done. Should looking at it fail, the answer is what it must be by what was known
        *before*: an error would say that nothing has changed. The kernel is to ask again soon.
        """
        try:
            return self.inodes.attributes(node)
        except OSError:
            self.changed(node)
            return by_all_accounts(before, attr, fields)
        except BaseException:
            self.changed(node)
            raise

    def _chown(self, upper: Upper, node: Node, uid: int, gid: int, ctx: RequestContext) -> int:
        """Set the owner as *ctx* asks; -1 leaves one as it is. Returns bits that go for it.

        They are not in a mode that is set with it either, as the kernel does without the extension.
        """
        gone = self._taken_by_chown(node, ctx)
        mode = stat.S_IMODE(self.tree.stat(node).st_mode)
        with attributes.mode_within(upper, node, mode & ~gone, mode):
            attributes.chown(upper, node, uid, gid)
        return gone

    def _taken_by_chown(self, node: Node, ctx: RequestContext) -> int:
        """Return the set-id bits of *node* that chown(2) by *ctx* takes.

        Our own takes them by itself, but for set-group-ID without group execution: who is in the
        file's group keeps that, and we are in all groups.
        """
        st = self.tree.stat(node)
        mode = stat.S_IMODE(st.st_mode)
        if node.is_dir or not mode & _SET_ID:
            return 0
        asked = mode & (stat.S_ISGID | stat.S_IXGRP) == stat.S_ISGID
        kill = self.killer_in(ctx) if asked else None
        return mode & ~attributes.without_set_id(st, kill or (lambda *owner: True))

    def _require_owner(self, owner: int, ctx: RequestContext) -> None:
        """Raise EPERM for who may not change the mode of *owner*'s file, of which bits are to go.

        With CAP_CHOWN alone nobody may (chown_common()); the kernel leaves that to us as well.
        """
        if not self.acts_as(owner, ctx):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    async def _chown_to_the_same(self, node: Node, ctx: RequestContext) -> None:
        """Do what chown(-1, -1) does: ctime moves, capabilities and set-id bits go.

        The kernel asks the same before a write that takes set-id bits, and lets everybody ask: who
        may not change the mode takes none here, and moves nothing.
        """
        self.writer()
        owner = self.inodes.attributes(node).st_uid
        if self._taken_by_chown(node, ctx) and not self.acts_as(owner, ctx):
            return
        self._chown(await self.copy_up(node), node, -1, -1, ctx)

    def _truncate(self, node: Node, cut: Cut) -> None:
        """Truncate by the descriptor of those who have the file open: it may be on older data."""
        truncate = partial(attributes.truncate, kill=cut.kill, named=cut.named)
        if node.file is not None:
            truncate(self.writer(), self.files.data(node, write=True).fd, cut.size)
            return
        fd = self.tree.open(node, os.O_WRONLY)
        try:
            truncate(self.writer(), fd, cut.size)
        finally:
            os.close(fd)

    def _truncate_set_id(self, upper: Upper, node: Node, cut: Cut, mode: int) -> None:
        """Truncate a file that is to lose set-id bits: to *mode*, as the kernel has it.

        It asks so where there is no extension to tell us that they go. The content goes last.
        """
        self._hold_open(upper, node)
        was = self.tree.stat(node).st_mode
        with attributes.mode_within(upper, node, stat.S_IMODE(mode), stat.S_IMODE(was)):
            self._truncate(node, cut)

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
        return self.tree.readlink(self.inodes[inode])

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
        node = self.inodes[inode]
        self._check_offered(name)
        if self._is_told(name) and self.told is not None:
            return self.told.value(node, name, ctx)
        names = self.tree.names_of(node)
        if names.is_reserved(name):
            raise FUSEError(errno.ENODATA)
        value = xattr.get(self.tree.target(node), names.to_disk(name))
        if value is None:
            self.xattrless.asked(node, name)
            raise _missing(name)
        return value if self.owners is None else self.owners.shown_value(name, value)

    @answers
    def listxattr(self, inode: int, ctx: RequestContext) -> list[bytes]:
        """Answer with the names of attributes, the driver's own left out."""
        node = self.inodes[inode]
        self._check_offered()
        shown = self.shown_names(node)
        if not shown:
            self.xattrless.asked(node)
        if not self.acl:
            shown = [name for name in shown if name not in _ACLS]
        if any(map(_is_trusted, shown)) and not capable(ctx, CAP_SYS_ADMIN):
            shown = [name for name in shown if not _is_trusted(name)]
        return shown

    def share_xattrless(self) -> None:
        """Let the extension answer for files without attributes; before the first request only."""
        if self.acl and self.xattrs:  # else there are answers besides "it has none"
            self.xattrless.begin(self.shown_names)

    def shown_names(self, node: Node) -> list[bytes]:
        """Return the names of the attributes of *node* that a caller with all rights sees.

        ACLs are among them although the mount may not have them. Raises OSError.
        """
        names = self.tree.names_of(node)
        shown = []
        for name in xattr.names(self.tree.target(node)):
            public = names.from_disk(name)
            if public is not None and not names.is_reserved(public) and not self._is_told(public):
                shown.append(public)
        return shown

    @answers_later
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        """Set an attribute; EPERM for fuse-overlayfs's own, which the next mount would obey.

        So it would what says on the root how owners are kept (elsewhere that is an attribute like
        any other). And for what the mount tells of its layers. What XATTR_CREATE or XATTR_REPLACE
        refuses does not copy the file up.
        """
        flags = native.xattr_flags()
        self._check_offered(name)
        node = self.inodes[inode]
        names = self.tree.names_of(node)
        if self.tree.layers[0].names.is_reserved(name) or self._is_told(name):
            raise FUSEError(errno.EPERM)
        if node is self.tree.root and name in MARKS:
            raise FUSEError(errno.EPERM)
        self.writer()
        check_change(self.tree, node)
        if self.owners is not None:
            value = self.owners.kept_value(name, value)
        if flags:
            there = xattr.has(self.tree.target(node), names.to_disk(name))
            if there and flags & os.XATTR_CREATE:
                raise FUSEError(errno.EEXIST)
            if not there and flags & os.XATTR_REPLACE:
                raise FUSEError(errno.ENODATA)
        upper = await self.copy_up(node)
        if name == _ACCESS_ACL:
            self._hold_open(upper, node)
            with self._without_foreign_group(upper, node, ctx):
                attributes.set_xattr(upper, node, name, value, flags)
        else:
            attributes.set_xattr(upper, node, name, value, flags)
        if name == DEFAULT_ACL and node.is_dir:
            upper.part(node).default_acl = None

    def _check_offered(self, name: bytes = b"") -> None:
        """Raise for an attribute (or all: no *name*) that the mount was asked not to have.

        ENOSYS is "not supported" to the caller, and the kernel does not ask again.
        """
        if not self.xattrs:
            raise FUSEError(errno.ENOSYS)
        if not self.acl and name in _ACLS:
            raise FUSEError(errno.EOPNOTSUPP)

    def _is_told(self, name: bytes) -> bool:
        return self.told is not None and told.is_told(name)

    @contextmanager
    def _without_foreign_group(
        self, upper: Upper, node: Node, ctx: RequestContext
    ) -> Iterator[None]:
        """Remove set-group-ID at a new ACL by one who is not in the group (posix_acl_update_mode).

        First, as that can be undone where the ACL cannot be set.
        """
        st = self.tree.stat(node)
        is_member = self.killer_in(ctx) if st.st_mode & stat.S_ISGID else None
        goes = is_member is not None and not is_member(st.st_uid, st.st_gid)
        mode = stat.S_IMODE(st.st_mode)
        with attributes.mode_within(upper, node, mode & ~stat.S_ISGID if goes else mode, mode):
            yield

    @answers_later
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        """Remove an attribute; ENODATA if there is none, without a copy-up."""
        self._check_offered(name)
        node = self.inodes[inode]
        names = self.tree.names_of(node)
        if names.is_reserved(name):
            raise FUSEError(errno.ENODATA)
        if self._is_told(name):
            raise FUSEError(errno.EPERM)
        self.writer()
        check_change(self.tree, node)
        if not xattr.has(self.tree.target(node), names.to_disk(name)):
            if name in _ACLS:
                return  # there is always one: the mode (acl(5))
            raise _missing(name)
        upper = await self.copy_up(node)
        attributes.remove_xattr(upper, node, name)
        if name == DEFAULT_ACL and node.is_dir:
            upper.part(node).default_acl = None


def _missing(name: bytes) -> FUSEError:
    """Return the answer for the attribute *name* that is not there (xattr(7)).

    Names without a namespace are not supported, nor are ``system.`` ones but the ACLs.
    """
    known = name.startswith((b"user.", b"trusted.", b"security.", *_ACLS))
    return FUSEError(errno.ENODATA if known else errno.EOPNOTSUPP)


def _is_trusted(name: bytes) -> bool:
    return name.startswith(b"trusted.")
