"""Node: one file of the merged tree, for as long as anybody knows it."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Any

from unionfs.union.below import Below
from unionfs.union.layer import Part
from unionfs.union.scan import KIND, NUMBER_SHIFT, Listed

UNKNOWN = -1  # of ``Node.protection``: nobody has asked yet


class Node:
    """One file of the merged tree: the same object before and after a copy-up, under every name.

    Where it is:

    * ``parent`` and ``name``: a place in the merged tree (for a hard link, one of its places);
      ``parent`` is None for the root only.
    * a directory: ``parts``, its directories topmost first; None until ``Tree.ready`` looked,
      with ``candidates`` the parts of the parent that hold a directory of this name.
    * anything else in a lower layer: ``source`` and ``source_name``.
    * anything else in the upper: ``source`` is None, and the file is ``name`` in the parent's
      upper directory, unless it is ``hidden`` (directory descriptor and name: a name of it in the
      work directory or its index, which is no part of the tree) or has no name at all and is held
      by ``anchor`` (a descriptor, O_PATH or more).
    * ``also`` are its further places in loaded directories, of a file with several names.

    What is known of it: ``kind`` (an ``S_IF*`` value), ``born`` (the inode number that its
    directory gave for the copy it was read from), ``place`` (where it is in the row of the merged
    index that it was read from, else -1), ``children`` (of a loaded directory), ``below``
    (what its layers below the upper show, where that was asked for),
    ``identity`` (device and inode number of the copy that gave the file its number), ``nlink``
    (links in the union where that differs from the file's own count, else 0), ``dead`` (no name is
    left), ``protection`` (the flags of ``union.protection``, or UNKNOWN), ``unmarked`` (it was made
    in this mount: there is no mark of the driver to look for, origin or metacopy), ``settled``
    (that the upper file is at its name is on the disk: a copy-up ends with a rename, which
    fdatasync(2) would not sync, and after a power loss the lower file would show again).

    For the FUSE room: ``ino`` (0: never shown), ``generation`` (tells it from files that had this
    number before; 0: the first), ``nlookup`` (references the kernel holds), ``attr`` (its
    attributes as last told to the kernel; None: ask the filesystem), ``file`` (its open data, if
    any) and ``listing`` (of a directory: positions in its names).

    All fields are only touched between awaits of one thread: no lock.
    """

    __slots__ = (
        "also",
        "anchor",
        "attr",
        "below",
        "born",
        "candidates",
        "children",
        "dead",
        "file",
        "generation",
        "hidden",
        "identity",
        "ino",
        "kind",
        "listing",
        "name",
        "nlink",
        "nlookup",
        "parent",
        "parts",
        "place",
        "protection",
        "settled",
        "source",
        "source_name",
        "unmarked",
    )

    parts: list[Part]  # read only where Tree.ready has been called; see ``is_ready``

    def __init__(self, parent: Node | None, name: bytes, kind: int) -> None:
        self.parent = parent
        self.name = name
        self.kind = kind
        self.parts = _NOT_READY
        self.candidates: tuple[Part, ...] = ()
        self.source: Part | None = None
        self.source_name = name
        self.anchor = -1
        self.hidden: tuple[int, bytes] | None = None
        self.also: dict[tuple[Node, bytes], None] = _NOWHERE
        self.children: dict[bytes, Node] | None = None
        self.below: Below | None = None
        self.identity: tuple[int, int] | None = None
        self.nlink = 0
        self.born = 0
        self.place = -1
        self.dead = False
        self.protection = UNKNOWN
        self.settled = self.unmarked = False
        self.ino = 0
        self.generation = 0
        self.nlookup = 0
        self.attr: Any = None
        self.file: Any = None
        self.listing: Any = None

    @property
    def is_dir(self) -> bool:
        """Whether this is a directory."""
        return self.kind == stat.S_IFDIR

    @property
    def is_ready(self) -> bool:
        """Whether the parts of this directory are known."""
        return self.parts is not _NOT_READY

    @property
    def in_upper(self) -> bool:
        """Whether the copy that counts is in the upper (of a directory: whether it has one there).

        Of a directory only after ``Tree.ready``.
        """
        if self.kind == stat.S_IFDIR:
            return bool(self.parts) and self.parts[0].layer.number == 0
        return self.source is None

    def upper_part(self) -> Part | None:
        """Return this directory's part in the upper, or None."""
        parts = self.parts
        if parts and parts[0].layer.number == 0:
            return parts[0]
        return None

    def lower_parts(self) -> list[Part]:
        """Return this directory's parts below the upper, topmost first."""
        parts = self.parts
        if parts and parts[0].layer.number == 0:
            return parts[1:]
        return parts

    @property
    def is_known(self) -> bool:
        """Whether a loaded directory leads here."""
        children = self.parent.children if self.parent is not None else None
        return children is not None and children.get(self.name) is self

    def found_at(self, parent: Node, name: bytes) -> None:
        """Note that *name* in *parent* leads here, as its children say already."""
        if self.parent is parent and self.name == name:
            return
        if not self.is_known:
            self.parent, self.name = parent, name
        elif self.also:
            self.also[parent, name] = None
        else:
            self.also = {(parent, name): None}

    def gone_from(self, parent: Node, name: bytes) -> None:
        """Note that *name* in *parent* leads here no more; another known place comes first now."""
        if self.parent is not parent or self.name != name:
            self.also.pop((parent, name), None)
        elif self.also:
            (self.parent, self.name), _ = self.also.popitem()

    def let_anchor_go(self) -> None:
        """Close the anchor, if there is one."""
        fd, self.anchor = self.anchor, -1
        if fd >= 0:
            try:
                os.close(fd)
            except OSError:
                pass  # it is closed all the same (close(2)), and nobody reads this file any more

    def path(self) -> bytes:
        """Return a path of this file in the merged tree, with a leading slash (for messages)."""
        names = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            names.append(node.name)
            node = node.parent
        return b"/" + b"/".join(reversed(names))

    def __repr__(self) -> str:
        return f"<Node {self.path()!r} ino={self.ino} kind={self.kind:o}>"


_NOT_READY: list[Part] = []
_NOWHERE: dict[tuple[Node, bytes], None] = {}  # shared by most nodes, and always empty


def node_of(parent: Node, name: bytes, entry: int, part: Part) -> Node:
    """Return the child of *parent* that *entry* of ``Scan.entries`` tells of, in *part*."""
    kind = entry & KIND
    child = Node(parent, name, kind)
    child.born = entry >> NUMBER_SHIFT
    if kind == stat.S_IFDIR:
        child.candidates = (part,)
    elif part.layer.number != 0:
        child.source = part
    return child


def nodes_of(parent: Node, parts: Sequence[Part], listed: Listed) -> dict[bytes, Node]:
    """Return the children of *parent*, which has these *parts*, that *listed* tells of."""
    if listed.layers is None:
        return {name: node_of(parent, name, e, parts[0]) for name, e in listed.entries.items()}
    children = {}
    homes: dict[int, tuple[Part, ...]] = {}  # few files are in others than the one before
    for (name, entry), layers in zip(listed.entries.items(), listed.layers, strict=True):
        found = homes.get(layers)
        if found is None:
            found = tuple(part for part in parts if layers >> part.layer.number & 1)
            homes[layers] = found
        child = children[name] = node_of(parent, name, entry, found[0])
        if child.candidates:
            child.candidates = found
    return children
