"""Putting a tree that is in use on other layers, which show the same files.

After a commit the layers have what the upper had, and the upper begins anew. Every node stays the
object that it was, with its number and all that the kernel knows of it; what changes is where its
file is found. First everything is looked for, and compared where anybody knows the file; only when
that has gone well is anything changed, and that cannot fail.

Nobody may change anything meanwhile (``fuse.loop.freeze``).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from unionfs.errors import ConflictError
from unionfs.union import protection
from unionfs.union.node import Node
from unionfs.upper.copyup import ensure_dir, keep_times
from unionfs.upper.index import link_node
from unionfs.upper.same import Same
from unionfs.upper.upper import Upper


class DifferentError(ConflictError):
    """The new layers do not show what is in use as it is."""


class Place(NamedTuple):
    """Where a file is found from now on: as *node* of the new tree says.

    *st* has its attributes there, if anybody knows the file. *moved*: they are another inode's.
    """

    node: Node
    st: os.stat_result | None
    moved: bool


class Rebase:
    """From *upper* and its tree to *fresh* and its own, whose upper directory is empty.

    Sockets, which no layer holds, get a name there, so that programs that listen are found. A file
    that no name leads to any more (``Node.dead``) stays where it is. ``places`` tells of all
    others.
    """

    def __init__(self, upper: Upper, fresh: Upper, known: Iterable[Node]) -> None:
        """Compare; *known* are the nodes that the kernel refers to.

        Raises DifferentError naming a file, and OSError.
        """
        self._upper = upper
        self._fresh = fresh
        self._same = Same(upper.tree, fresh.tree)
        self.places: dict[Node, Place] = {}
        pending = [(upper.tree.root, fresh.tree.root)]
        while pending:
            node, found = pending.pop()
            if node.kind != found.kind:
                raise _different(node)
            if node.is_dir and node.is_ready:
                fresh.tree.ready(found)
            if node.children is not None:
                pending += self._children(node, node.children, found)
            self._pair(node, found)
        self._links = self._shared_files()
        for node in (*known, *upper.tree.links.values()):
            if node not in self.places and not node.dead:
                raise _different(node)

    def _children(
        self, node: Node, children: dict[bytes, Node], found: Node
    ) -> Iterator[tuple[Node, Node]]:
        """Return what is in a directory, each with what has its name in the new tree."""
        there = self._fresh.tree.load(found)
        for name, child in children.items():
            if child.kind == stat.S_IFSOCK and name not in there:
                self._keep_socket(child, found, name)
        if children.keys() != there.keys():
            raise _different(node)
        return ((child, there[name]) for name, child in children.items())

    def _keep_socket(self, socket: Node, parent: Node, name: bytes) -> None:
        above = ensure_dir(self._fresh, parent).fd()
        before = os.fstat(above)
        link_node(self._upper, socket, above, name)
        keep_times(above, before)
        self._fresh.tree.load(parent)[name] = Node(parent, name, socket.kind)

    def _pair(self, node: Node, found: Node) -> None:
        """Note where *node* will be, compared if anybody knows more of it than its number."""
        place = Place(found, None, moved=False)
        if node.identity is not None or (node.is_dir and node.ino):
            place = self._compared(node, found)
        before = self.places.setdefault(node, place)
        if before is not place and not _is_same(before.st, place.st):
            raise _different(node)  # one file by several names is to be one file again

    def _compared(self, node: Node, found: Node) -> Place:
        was, now = self._upper.tree.stat(node), self._fresh.tree.stat(found)
        if not node.is_dir and os.path.samestat(was, now):
            return Place(found, now, moved=False)
        if not self._same.metadata(node, found) or not self._is_protected_alike(node, found):
            raise _different(node)
        if not node.is_dir and (node.nlink or was.st_nlink, was.st_size) != (
            now.st_nlink,
            now.st_size,
        ):
            raise _different(node)
        return Place(found, now, moved=True)

    def _is_protected_alike(self, node: Node, found: Node) -> bool:
        return protection.of(self._upper.tree, node) == protection.of(self._fresh.tree, found)

    def _shared_files(self) -> dict[tuple[int, int], Node]:
        """Return what ``Tree.links`` is to be."""
        links = {who: node for who, node in self._upper.tree.links.items() if node.dead}
        for node, place in self.places.items():
            st = place.st
            if st is None or st.st_nlink == 1 or node.is_dir:
                continue
            if links.setdefault((st.st_dev, st.st_ino), node) is not node:
                raise _different(node)
        return links

    def apply(self) -> None:
        """Let the nodes, the tree and the upper be on the new layers. Raises nothing."""
        for node, place in self.places.items():
            _lead_to(node, place)
        self._upper.tree.go_on(self._fresh.tree.layers, self._links)
        self._upper.go_on(self._fresh)


def _lead_to(node: Node, place: Place) -> None:
    found, st = place.node, place.st
    node.let_anchor_go()
    node.source, node.source_name = found.source, found.source_name
    node.hidden, node.nlink = found.hidden, found.nlink
    node.candidates, node.parts = found.candidates, found.parts
    node.born, node.place, node.below = found.born, found.place, None
    node.unmarked = node.settled = False
    known = st is not None and not node.is_dir  # of a directory it is asked for: upper.identity
    node.identity = (st.st_dev, st.st_ino) if st is not None and known else None
    if place.moved:
        node.attr = None


def _is_same(one: os.stat_result | None, other: os.stat_result | None) -> bool:
    return one is not None and other is not None and os.path.samestat(one, other)


def _different(node: Node) -> DifferentError:
    path = os.fsdecode(node.path())
    return DifferentError(f"{path} is in use, and would not be the same on the new layers")
