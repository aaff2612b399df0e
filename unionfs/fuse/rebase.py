"""A mount that goes on on other layers and an empty upper, while programs use it.

``Rebasing`` is made, and then applied or given up, while the mount answers nothing
(``fuse.loop.freeze``). See ``upper.rebase`` for what becomes of the tree.
"""

from __future__ import annotations

import os
from itertools import chain
from typing import TYPE_CHECKING

from unionfs.errors import ConflictError
from unionfs.fuse import native
from unionfs.fuse.passing import refuse_open
from unionfs.ondisk.flavour import Flavour
from unionfs.options import MountConfig
from unionfs.union.layer import Layer
from unionfs.union.metacopy import open_readable
from unionfs.union.node import Node
from unionfs.union.stack import find_overrides, tree_of
from unionfs.union.tree import Tree
from unionfs.upper.rebase import Rebase
from unionfs.upper.upper import Upper
from unionfs.upper.work import WorkDir, claim

if TYPE_CHECKING:
    from unionfs.fuse.state import State


class UnfitStackError(ConflictError):
    """The mount cannot be put on other layers."""


class Rebasing:
    """All that is needed for the mount of *state* to go on with the directories of *stack*."""

    def __init__(self, state: State, stack: MountConfig) -> None:
        """Open and compare everything; what the mount does is not changed.

        Raises UnionfsError naming a file that would be another, or a directory; OSError.
        """
        if state.upper is None or state.leaving:
            raise UnfitStackError("the mount is read-only" if not state.leaving else "it is ending")
        assert stack.upperdir is not None and stack.workdir is not None
        self.stack = stack
        self._state = state
        self._upper = state.upper
        self._numbers = {layer: layer.number for layer in state.tree.layers}
        self._new: list[Layer] = []
        self._fresh: Upper | None = None
        self._data: dict[Node, int] = {}
        refuse_open(state.files.opened())
        try:
            state.inodes.lending.pause()
            _find_names(state)
            _find_directories(state.tree)
            fresh = self._fresh = self._opened(stack.upperdir, WorkDir(stack.workdir, wait=0))
            self._rebase = Rebase(self._upper, fresh, state.inodes.known())
            self._open_data(fresh)
        except BaseException:
            self.give_up()
            raise

    def _opened(self, upper: bytes, work: WorkDir) -> Upper:
        """Return the new upper, with its tree; layers that both stacks have are the same ones."""
        old = self._upper
        try:
            there = {layer.path: layer for layer in old.tree.layers[1:]}
            layers = [self._open(upper, 0)]
            claim(layers[0], wait=0)
            for number, path in enumerate(self.stack.lowerdirs, start=1):
                layer = there.get(path) or self._open(path, number)
                layer.number = number
                layers.append(layer)
            if old.flavour is Flavour.USER:
                find_overrides(self._new)
            tree = tree_of(layers, old.tree.pool)
            if layers[0].override is not old.override or type(tree) is not type(old.tree):
                raise UnfitStackError("the new directories keep owners in another way")
            return Upper(
                tree,
                work,
                volatile=old.volatile,
                redirect_dir=old.redirect_dir,
                gives_owners=old.gives_owners,
            )
        except BaseException:
            work.leave()
            raise

    def _open(self, path: bytes, number: int) -> Layer:
        layer = Layer(path, number, self._upper.flavour, self._upper.tree.pool, plain=number > 0)
        self._new.append(layer)
        if layer.plain:
            layer.hold()
        return layer

    def _open_data(self, fresh: Upper) -> None:
        """Open what is open and will be found elsewhere: later that might fail."""
        for node in self._state.files.opened():
            place = self._rebase.places.get(node)
            if place is not None and place.moved:
                self._data[node] = open_readable(fresh.tree, place.node)

    def give_up(self) -> None:
        """Close what was opened; the mount goes on as it was."""
        self._state.inodes.lending.resume()
        for fd in self._data.values():
            os.close(fd)
        if self._fresh is not None:
            self._fresh.leave()
        for layer in self._new:
            self._upper.tree.pool.drop(layer)
            layer.close()
        for layer, number in self._numbers.items():
            layer.number = number

    def apply(self) -> None:
        """Let the mount go on on the new layers, and the kernel ask for attributes anew.

        Raises nothing that can be foreseen; if it does, the mount must end.
        """
        state, places = self._state, self._rebase.places
        self._keep_listed_numbers()
        self._rebase.apply()
        state.inodes.see_devices()
        native.forget_attributes()
        for node, fd in self._data.items():
            state.files.go_on_with(node, fd, writable=False)
        for node, place in places.items():
            if place.moved:
                state.changed(node)

    def _keep_listed_numbers(self) -> None:
        """Let files that were only listed have the numbers that the listing said."""
        for node, place in self._rebase.places.items():
            if not node.ino and node.source is not None and place.node.born != node.born:
                node.ino = self._state.inodes.expected(node)


def _find_directories(tree: Tree) -> None:
    """Have what directories consist of, before layers are numbered as in the new stack.

    Of one that the kernel has forgotten it may be unknown, and a merged index says it by number.
    """
    pending = [tree.root]
    while pending:
        directory = pending.pop()
        if directory.ino:
            tree.ready(directory)
        pending += [child for child in (directory.children or {}).values() if child.is_dir]


def _find_names(state: State) -> None:
    """Look up a name of each file whose known ones are gone while somebody uses it.

    Its place on the new layers is that of another name, which nobody has looked up so far.
    """
    tree, inodes = state.tree, state.inodes
    held = {
        node
        for node in chain(inodes.known(), tree.links.values())
        if not (node.is_dir or node.dead or node.is_known)
    }
    numbers = {node.identity[1] for node in held if node.identity is not None}
    numbers |= {tree.stat(node).st_ino for node in held}
    pending = [tree.root] if held else []
    while pending:
        directory = pending.pop()
        for name, node in list(tree.load(directory).items()):
            if node.is_dir:
                pending.append(node)
            elif node.born in numbers:
                inodes.enter(directory, name, node)
