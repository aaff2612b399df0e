"""A mount by an ordinary user in which he is root, as far as the kernel leaves it to us.

The files show the owners that they have in their image, and to the kernel the user is none of them.
So it is not the kernel that checks permissions there (``default_permissions``, and with it the
kernel's part of ACLs, is off): without ``allow_other`` it lets nobody in but him, and he may do
everything, as root may. What he makes is root's.
"""

from __future__ import annotations

import os
import stat

from pyfuse3 import RequestContext

from unionfs.fuse.callers import Caller
from unionfs.fuse.guard import answers
from unionfs.fuse.operations import Operations
from unionfs.union.tree import Tree
from unionfs.upper.create import Owner
from unionfs.upper.upper import Upper

_ROOT = 0


class RootedOperations(Operations):
    """``Operations`` for one caller, whose IDs stand for root's."""

    enable_acl = False  # FUSE_POSIX_ACL would bring default_permissions along
    rooted = True

    def __init__(self, tree: Tree, upper: Upper | None, *, read_only: bool = False) -> None:
        super().__init__(tree, upper, read_only=read_only)
        self._uid = os.getuid()
        self._gid = os.getgid()

    def is_root(self, ctx: Caller) -> bool:
        """Return whether the caller may do what root may."""
        return ctx.uid in (_ROOT, self._uid)

    def acts_as(self, owner: int, ctx: RequestContext) -> bool:
        """Return whether the caller may do with a file what its *owner* may."""
        return ctx.uid == owner or self.is_root(ctx)

    def owner(self, ctx: Caller) -> Owner:
        """Return who owns what the caller makes, in the mount."""
        return Owner(
            _ROOT if ctx.uid == self._uid else ctx.uid, _ROOT if ctx.gid == self._gid else ctx.gid
        )

    @answers
    def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        """Answer access(2), the only check that the kernel asks for: as for root.

        Root may not execute a file that nobody may execute.
        """
        attr = self.inodes.attributes(self.inodes[inode])
        anybody = attr.st_mode & 0o111 or stat.S_ISDIR(attr.st_mode)
        return bool(anybody) or not mode & os.X_OK
