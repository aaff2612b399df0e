"""Names that the extension removes by itself: which they are, and the accounts of those that went.

Removing a lower file's name is a whiteout on the disk and little else, so where several names of a
directory are removed in a row the extension is told which others are such (``_removing.c``). What
it has removed it tells before anything else is asked here.
"""

from __future__ import annotations

from unionfs.fuse import native
from unionfs.fuse.guard import failure
from unionfs.fuse.operations import Operations
from unionfs.union.node import Node
from unionfs.union.protection import of
from unionfs.upper.holding import name_gone
from unionfs.upper.upper import Upper

_SEVERAL = 2
_SHARE = 32  # one name removed pays for looking at so many


class Removing:
    """The removals of one mount that has an *upper*. One thread, between awaits.

    ``begin`` is for mounts where the kernel has seen to it that the caller may remove names.
    """

    def __init__(self, operations: Operations, upper: Upper) -> None:
        assert native.hooks is not None
        self._hooks = native.hooks
        self._inodes = operations.inodes
        self._tree = operations.tree
        self._upper = upper

    def begin(self) -> None:
        """From now on be told of what the extension removes; before the first request only."""
        self._hooks.tell_removed(self.removed)

    def went(self, number: int) -> None:
        """Note that a name was removed from the directory *number*, and that this is accounted for.

        Others may be the extension's from now on.
        """
        in_a_row = self._hooks.removed_in_a_row(number)
        if in_a_row < _SEVERAL:
            return
        parent = self._inodes[number]
        children = parent.children or {}
        whiteout = self._upper.work.shared_whiteout()
        if whiteout and not parent.protection and in_a_row * _SHARE >= len(children):
            names = [name for name, node in children.items() if self._is_plain(node)]
            fd = self._upper.work.fd
            self._hooks.share_removable(number, fd, whiteout, b"\0".join(names), len(names))

    def _is_plain(self, node: Node) -> bool:
        """Return whether a whiteout is all that it takes to remove *node*.

        Not so of one that was never looked at: it may have other names, which are counted.
        """
        if node.source is None or node.identity is None or node.identity in self._tree.links:
            return False
        try:
            return not (node.protection and of(self._tree, node))
        except OSError:
            return False  # whoever removes it is told

    def removed(self, number: int, names: bytes) -> None:
        """Account for *names*, NUL between them, which went from the directory *number*."""
        try:
            parent = self._inodes[number]
            parent.attr = None
        except Exception as error:
            failure(error, "unlink")
            return
        for name in names.split(b"\0"):
            self._gone(parent, name)

    def _gone(self, parent: Node, name: bytes) -> None:
        try:
            assert parent.children is not None
            node = parent.children.pop(name)
            name_gone(self._upper, node, parent, name)
        except Exception as error:
            failure(error, "unlink")
