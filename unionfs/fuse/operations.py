"""``Operations``: everything that pyfuse3 asks of a filesystem, as one class."""

from __future__ import annotations

from collections.abc import Sequence

import pyfuse3

from unionfs.fuse.changes import ChangeHandlers
from unionfs.fuse.data import DataHandlers
from unionfs.fuse.guard import failure
from unionfs.fuse.metadata import MetadataHandlers
from unionfs.union.tree import Tree
from unionfs.upper.upper import Upper


class Operations(ChangeHandlers, DataHandlers, MetadataHandlers, pyfuse3.Operations):
    """A protocol adapter only: each handler finds nodes, calls ``union`` or ``upper``, answers.

    ``access`` and ``poll`` are left to the kernel (ENOSYS): it checks permissions by itself, and
    regular files are always ready.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = True  # whether the kernel heeds ACLs
    rooted = False  # whether an ordinary user is root here (``rooted``)
    shared = False  # whether he is, and others are let in (``shared``)

    def __init__(self, tree: Tree, upper: Upper | None, *, read_only: bool = False) -> None:
        """Serve *tree*, with changes going to *upper*.

        None where there is none; with *read_only* it is only asked which files are the same.
        """
        super().__init__(tree, upper, read_only=read_only)

    def offer(self, *, acl: bool, xattrs: bool) -> None:
        """As ``State.offer``; without ACLs the kernel does not look for any."""
        super().offer(acl=acl, xattrs=xattrs)
        self.enable_acl = self.enable_acl and self.acl

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Take back the references that the kernel gives up."""
        self._trace_forgotten(inode_list)
        for inode, count in inode_list:
            self._forget(inode, count)

    def forget_one(self, inode: int, count: int) -> None:
        """``forget``, of *count* references to the node that is called *inode*."""
        self._trace_forgotten(((inode, count),))
        self._forget(inode, count)

    def _trace_forgotten(self, inode_list: Sequence[tuple[int, int]]) -> None:
        try:
            if self.tracer is not None:
                self.tracer.forget(inode_list)
        except Exception as error:
            failure(error, "forget")

    def _forget(self, inode: int, count: int) -> None:
        """Nobody waits for an answer: here FUSEError, too, would end pyfuse3's loop."""
        try:
            node = self.inodes.forget(inode, count)
            if node is not None and node.file is not None:
                self.files.drop(node)
        except Exception as error:
            failure(error, "forget")
