"""Directories that the extension answers for by itself, and what becomes known of them here.

A directory that the upper does not have is lent to the extension (``_lent.c``) when the kernel is
told of it. The extension tells what is in it, and goes on so below, without a node here. Whatever
needs a node gets it: one that is asked for by number (``bring``), all of a loaded directory.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from unionfs.fuse import native
from unionfs.fuse.hooks import Hooks
from unionfs.fuse.listing import Listing
from unionfs.fuse.numbers import Place
from unionfs.syscalls.capability import CAPABILITY
from unionfs.union.layer import Layer, Part
from unionfs.union.node import Node
from unionfs.union.scan import Listed

if TYPE_CHECKING:
    from unionfs.fuse.inodes import Inodes

_LAST = 63  # the highest number of a layer that can be lent together with others: LAYER_BITS


class Lending:
    """What of the mount's tree is lent; nothing before ``begin``. One thread, between awaits.

    A directory is either lent or loaded (``Node.children``): loading it takes it back.
    """

    def __init__(self, inodes: Inodes) -> None:
        self._inodes = inodes
        self._hooks: Hooks | None = None
        self._layers: set[int] = set()
        self._paused: set[int] = set()
        self._forgotten: list[Node] = []
        self._loading = False

    @property
    def on(self) -> bool:
        """Whether directories are lent."""
        return bool(self._layers)

    def begin(self, *, xattrs: bool) -> None:
        """From now on lend; before the first request only. *xattrs*: files have attributes."""
        hooks = self._hooks = native.hooks
        if hooks is None:
            return
        hooks.lend_how(self._inodes.static_nlink, xattrs)
        merged = self._inodes.tree.merged
        says_all = merged is not None and merged.has_attributes
        for layer in self._inodes.tree.lowers():
            place = self._inodes.numbers.place(layer.device)
            if place is not None and (layer.override is None or says_all):
                self._add(hooks, layer, place)
        if merged is not None:
            hooks.lend_rows(lambda path: merged.row(b"/" + path), merged.has_attributes)
        self._inodes.tree.loaded = self._loaded
        self._inodes.tree.listed = self._listed

    def _add(self, hooks: Hooks, layer: Layer, place: Place) -> None:
        flavour = layer.flavour
        plain = layer.plain and not layer.root.whiteout_files
        metacopy = b"" if plain else flavour.metacopy
        kept = b"" if layer.override is None else layer.override.value
        names = (flavour.prefix, metacopy, kept, layer.names.to_disk(CAPABILITY))
        hooks.lend_layer(
            layer.number, layer.root.fd(), layer.device, *place, plain, layer.aufs, *names
        )
        self._layers.add(layer.number)

    def shown(self, node: Node) -> None:
        """Note that the kernel is told of *node*; a directory is lent, if that can be.

        Not one whose marks say more than its names do, or on another filesystem than its layer (a
        subvolume of btrfs), whose files have the inode numbers of others. Nor one that several
        layers have, if that is so of any of these, or they are too many (``_together``).
        """
        if self._hooks is None:
            return
        self._hooks.lent_take(node.ino)
        parts = node.parts if node.is_dir else ()
        if not parts or node.children is not None:
            return
        several = 0
        if len(parts) > 1 and self._inodes.tree.merged is None:
            several = self._together(parts)
            if not several:
                return
        part = parts[0]
        if part.layer.number not in self._layers or part.whiteout_files:
            return
        if node.identity is not None and node.identity[0] != part.layer.device:
            return
        if part.redirect is None and node.parent is not None and not node.dead:
            path = part.path().lstrip(b"/")
            self._hooks.lend(node.ino, node.parent.ino, part.layer.number, several, path)

    def _together(self, parts: Sequence[Part]) -> int:
        """Return the layers of *parts* as a set of bits; 0 if they are not to be lent as one.

        The extension has a path for all of them, and room for the numbers below 64.
        """
        path = parts[0].path()
        layers = 0
        for part in parts:
            number = part.layer.number
            if number not in self._layers or number > _LAST or part.path() != path:
                return 0
            if part.whiteout_files or part.redirect is not None:
                return 0
            layers |= 1 << number
        return layers

    def bring(self, number: int) -> Node | None:
        """Return the node that the extension told the kernel of as *number*; None: it did not.

        Raises OSError (ESTALE if the file is not there any more).
        """
        way = [number]
        while self._hooks is not None and (above := self._hooks.lent_above(way[-1])):
            way.append(above)
        if len(way) == 1:
            return None
        for above in reversed(way[1:]):
            directory = self._inodes.find(above)
            if directory is not None:  # else it is forgotten, and was loaded with that above it
                self._inodes.tree.load(directory)
        node = self._inodes.find(number)
        if node is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return node

    def where(self, number: int) -> tuple[bytes, int] | None:
        """Return the path and the layer's number of a node as ``bring`` does, without making it."""
        found = self._hooks.lent_where(number) if self._hooks is not None else None
        if found is None:
            return None
        above, below, layer = found
        return self._inodes[above].path() + below, layer

    def _listed(self, node: Node) -> Listed | None:
        """Return what the extension has read of *node*, a lent directory that is to be loaded."""
        found = self._hooks.lent_entries(node.ino) if self._hooks is not None else None
        return None if found is None else Listed(*found)

    def _loaded(self, node: Node) -> None:
        """Take the directory *node* back, which has been loaded; it is not, where that fails."""
        try:
            found = self._hooks.take_back(node.ino) if self._hooks is not None else None
        except BaseException:
            node.children = None
            raise
        children = node.children
        if found is None or children is None:
            return
        names, told = found
        if names is not None:
            node.listing = Listing.begun(names)
        for name, number, count, unprotected in told:
            child = children.get(name)
            if child is not None:
                self._is(child, number, count)
                if unprotected:
                    child.protection = 0
            elif self._hooks is not None:  # somebody removed it behind our back
                self._hooks.lent_lose(number)
        self._load_forgotten()

    def _is(self, node: Node, number: int, count: int) -> None:
        """Note that *node*, not looked at so far, was told as *number*, *count* times."""
        part = node.source or node.candidates[0]
        node.identity = part.layer.device, self._inodes.numbers.inode(number)
        node.ino = number
        if count:
            self._inodes.told(node, count)
        else:
            self._forgotten.append(node)

    def _load_forgotten(self) -> None:
        """Load the directories that the kernel has forgotten, but not all that is in them.

        Nobody would find them by their numbers. It is not done within the loading of another one:
        they may be nested as deep as paths are.
        """
        if self._loading:
            return
        self._loading = True
        try:
            while self._forgotten:
                self._inodes.tree.load(self._forgotten[-1])
                self._forgotten.pop()
        finally:
            self._loading = False

    def moved(self, node: Node) -> None:
        """Note that the directory *node* has another parent."""
        if self._hooks is not None and node.parent is not None:
            self._hooks.lent_moved(node.ino, node.parent.ino)

    def copied(self, node: Node) -> None:
        """Have the extension forget what was told of the directory *node*, now in the upper."""
        if self._hooks is not None:
            self._hooks.lent_copied(node.ino)

    def forgotten(self, node: Node) -> None:
        """Lend the directory *node* no more, which the kernel forgets."""
        if self._hooks is not None and self._hooks.lent_end(node.ino):
            self._inodes.tree.load(node)

    def left(self, number: int) -> None:
        """Note that the kernel has forgotten the node *number*."""
        if self._hooks is not None:
            self._hooks.lent_leave(number)

    def has(self, number: int) -> bool:
        """Return whether the extension told of a file by *number* that is not known here."""
        return self._hooks is not None and self._hooks.lent_has(number)

    def pause(self) -> None:
        """Take everything back, and lend nothing until ``resume``. Raises OSError."""
        self._layers, self._paused = set(), self._layers
        while self._hooks is not None and (roots := self._hooks.lent_roots()):
            for number in roots:
                node = self._inodes.find(number)
                if node is None or node.children is not None:
                    self._hooks.lent_lose(number)
                else:
                    self._inodes.tree.load(node)

    def resume(self) -> None:
        """Lend again after a ``pause``."""
        self._layers |= self._paused

    def __len__(self) -> int:
        return self._hooks.lent_total() if self._hooks is not None else 0
