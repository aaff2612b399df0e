"""A tree in which some layers keep owners, modes and types in an attribute (``ondisk.override``).

Everything else of a union stays as it is: a file's own attributes say where it is and how often it
is linked, and only what is shown of it is read beside them. Mounts whose layers all keep owners as
files do use ``Tree`` itself and pay nothing for this.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from unionfs.ondisk import override
from unionfs.ondisk.override import AttributeNames, Override
from unionfs.syscalls.at import PathFd, name_path
from unionfs.syscalls.idmap import IdMap
from unionfs.union.layer import FdPool, Layer, Part
from unionfs.union.node import Node
from unionfs.union.tree import Tree


class OverrideTree(Tree):
    """As ``Tree``; *ids* are the owners that can be shown, None: all.

    In a user namespace that has no name for an owner, the owner is shown as root: the kernel would
    let nobody change such a file.
    """

    def __init__(self, layers: Sequence[Layer], pool: FdPool, ids: IdMap | None = None) -> None:
        super().__init__(layers, pool)
        self._ids = ids

    def stat(self, node: Node) -> os.stat_result:
        """Return the attributes that *node* is shown with. Raises OSError."""
        known = self.known_stat(node)
        if known is not None:
            return known
        st, spelling = self.raw_stat(node), self.layer_of(node).override
        if spelling is None:
            return st
        return self._shown(st, override.read(self._attributes_of(node), spelling))

    def kept_stat(self, node: Node) -> tuple[os.stat_result, bool]:
        """Return the attributes of *node*, with owners that may have no name here.

        And whether they are written down, as those of every file in a store are. Raises OSError.
        """
        st, spelling = self.raw_stat(node), self.layer_of(node).override
        value = None if spelling is None else override.read(self._attributes_of(node), spelling)
        return (st, False) if value is None else (override.applied(st, value), True)

    def stat_at(self, part: Part, name: bytes) -> os.stat_result:
        """Return the attributes that *name* in *part* is shown with. Raises OSError."""
        st = super().stat_at(part, name)
        if part.layer.override is None:
            return st
        return self._shown(st, override.read(name_path(part.fd(), name), part.layer.override))

    def stat_of(self, part: Part) -> os.stat_result:
        """Return the attributes that the directory *part* is shown with. Raises OSError."""
        st = super().stat_of(part)
        if part.layer.override is None:
            return st
        return self._shown(st, override.read(part.fd(), part.layer.override))

    def stat_open(self, fd: int) -> os.stat_result:
        """Return the attributes that the upper file which is open on *fd* is shown with."""
        st = os.stat(fd)
        spelling = self.layers[0].override
        return st if spelling is None else self._shown(st, override.read(fd, spelling))

    def readlink_at(self, part: Part, name: bytes) -> bytes:
        """Return the target of the symbolic link *name* in *part*. Raises OSError."""
        if part.layer.override is None:
            return super().readlink_at(part, name)
        return override.link_target(part.fd(), name)

    def readlink(self, node: Node) -> bytes:
        """Return the target of the symbolic link *node*. Raises OSError."""
        if self.layer_of(node).override is None:
            return super().readlink(node)
        fd = self.open(node, os.O_PATH)
        try:
            return override.link_target_of(fd)
        finally:
            os.close(fd)

    def names_of(self, node: Node) -> AttributeNames:
        """Return what the attributes of *node* are called in the layer that has it."""
        return self.layer_of(node).names

    def layer_of(self, node: Node) -> Layer:
        """Return the layer that holds the copy of *node* that counts."""
        if node.kind == stat.S_IFDIR:
            return self.ready(node)[0].layer
        return node.source.layer if node.source is not None else self.layers[0]

    def _attributes_of(self, node: Node) -> int | bytes:
        """Return where the attributes of *node* are read, without opening a directory for that."""
        if node.anchor >= 0:
            return PathFd(node.anchor)
        if node.kind != stat.S_IFDIR:
            return name_path(*self.place(node))
        part = node.parts[0]
        if part.held >= 0 or part.parent is None:
            return part.fd()
        return name_path(part.parent.fd(), part.name)

    def _shown(self, st: os.stat_result, value: Override | None) -> os.stat_result:
        if self._ids is not None:
            value = self._ids.known(value or override.of(st))
        return st if value is None else override.applied(st, value)
