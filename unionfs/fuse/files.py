"""Open files and directories.

All openers of a file share one descriptor, the node's: after a copy-up it is replaced once, and
every reader, whenever it opened the file, reads the new content from then on.
"""

from __future__ import annotations

import os

from unionfs.union.metacopy import open_readable
from unionfs.union.node import Node
from unionfs.union.tree import Tree


class OpenFile:
    """The data of one open file: its descriptor, whether that can be written, how many opens."""

    __slots__ = ("fd", "opens", "writable")

    def __init__(self, fd: int, *, writable: bool) -> None:
        self.fd = fd
        self.writable = writable
        self.opens = 0


class Files:
    """Handles, by the numbers that the kernel has for them. One thread, between awaits."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._next = 0
        self.nodes: dict[int, Node] = {}
        self.dirs: dict[int, Node] = {}

    def open(self, node: Node, *, write: bool) -> int:
        """Return a handle of *node*, which for writing must be in the upper. Raises OSError."""
        file: OpenFile | None = node.file
        if file is None:
            file = self._open_data(node, write=write)
        elif write and not file.writable:
            self._reopen(node, write=True)
        return self._add(node, file)

    def adopt(self, node: Node, fd: int) -> int:
        """Return a handle of the new file *node*, open on *fd* for reading and writing."""
        node.file = OpenFile(fd, writable=True)
        return self._add(node, node.file)

    def _open_data(self, node: Node, *, write: bool) -> OpenFile:
        fd = self._open_fd(node, write=write)
        file = node.file = OpenFile(fd, writable=write)
        return file

    def _open_fd(self, node: Node, *, write: bool) -> int:
        if write:
            return self._tree.open(node, os.O_RDWR)
        return open_readable(self._tree, node)

    def _add(self, node: Node, file: OpenFile) -> int:
        file.opens += 1
        self._next += 1
        self.nodes[self._next] = node
        return self._next

    def moved(self, node: Node) -> None:
        """After a copy-up of *node*: let its openers go on with the copy. Raises OSError."""
        if node.file is not None:
            self._reopen(node, write=False)

    def _reopen(self, node: Node, *, write: bool) -> None:
        file = node.file
        fd = self._open_fd(node, write=write)
        os.close(file.fd)
        file.fd = fd
        file.writable = write

    def close(self, handle: int) -> None:
        """Close a handle; the descriptor goes with the last."""
        node = self.nodes.pop(handle)
        file = node.file
        file.opens -= 1
        if not file.opens:
            node.file = None
            os.close(file.fd)

    def open_dir(self, node: Node) -> int:
        """Return a handle of the directory *node*."""
        self._next += 1
        self.dirs[self._next] = node
        return self._next

    def close_all(self) -> None:
        """Close every handle that the kernel did not release (the daemon was told to leave)."""
        for handle in list(self.nodes):
            self.close(handle)
        self.dirs.clear()
