"""Directories whose metadata no layer of an image can hold.

A layer's tar may name ``usr/bin/x`` without naming ``usr``: then ``usr`` keeps what a layer below
said about it, as in unpackers that write all layers into one tree. In a stack of directories it
does not: the layer has to have *some* directory ``usr``, and the topmost one is what shows. A layer
is shared by images with different layers below, so the right metadata cannot be written into it.
Therefore an image that needs it gets one more directory on top of its layers, with nothing but
those directories in it and the metadata that shows through. It depends on all the layers, so it is
addressed by their ChainID. (One on top of each layer in question would show the same tree, with a
deeper stack.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from unionfs.digest import Digest
from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.marks import read_dir_marks
from unionfs.store.attributes import copy_directory_attributes, same_attributes
from unionfs.store.layers import Layers, publish_directory, require_readable
from unionfs.store.layout import TREE
from unionfs.store.parts import Parts
from unionfs.syscalls.at import open_beneath, open_dir

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class VisibleLayer(NamedTuple):
    """A layer of a stack: its directory, and the directories in it that it does not describe."""

    path: str
    implicit: frozenset[bytes]


class Fixups:
    """The fix-up directories of one store."""

    def __init__(self, parts: Parts, layers: Layers) -> None:
        self._parts = parts
        self._layers = layers

    def path(self, chain: Digest) -> str:
        """Return the directory to stack on top of the layers of *chain*."""
        return os.path.join(self._parts.layout.fixup(chain), TREE)

    def readable_path(self, chain: Digest) -> str:
        """Return ``path`` after looking at it. Raises MissingLayerError."""
        path = self.path(chain)
        require_readable(path, f"the fix-up directory of the layers {chain}")
        return path

    def make(self, chain: Digest, diff_ids: Sequence[Digest]) -> bool:
        """Make the fix-up directory of *chain*, whose layers are *diff_ids* bottommost first.

        Return False if these layers need none. The caller holds the lock of the chain. Raises
        MissingLayerError, OSError.
        """
        if os.path.isdir(self.path(chain)):
            return True
        layers = visible_layers(self._layers, diff_ids)
        wanted = _wanted(layers, self._parts.flavour)
        if not wanted:
            return False
        with self._parts.scratch.directory() as scratch:
            made = os.path.join(scratch.path, "fixup")
            os.makedirs(os.path.join(made, TREE), mode=0o700)
            self._fill(os.path.join(made, TREE), wanted, layers)
            publish_directory(made, self._parts.layout.fixup(chain))
        return True

    def _fill(self, tree: str, wanted: set[bytes], layers: Sequence[VisibleLayer]) -> None:
        """Make the *wanted* directories in *tree*; children before parents for the times' sake."""
        root = os.open(tree, _DIR)
        try:
            for path in sorted(wanted - {b""}):
                parent, _, name = path.rpartition(b"/")
                with _opened(root, parent) as parent_fd:
                    os.mkdir(name, 0o700, dir_fd=parent_fd)
            for path in sorted(wanted, reverse=True):
                self._describe(root, path, layers)
        finally:
            os.close(root)

    def _describe(self, root: int, path: bytes, layers: Sequence[VisibleLayer]) -> None:
        describing = _describing(layers, path, self._parts.flavour)
        source = describing if describing is not None else _topmost(layers, path)
        try:
            with _opened(root, path) as target:
                copy_directory_attributes(source, target, self._parts.flavour)
        finally:
            os.close(source)


def visible_layers(layers: Layers, diff_ids: Sequence[Digest]) -> list[VisibleLayer]:
    """Return the layers of *diff_ids* (bottommost first) that can show something, topmost first.

    A layer that occurs twice hides all that its lower place could show, and a layer with an opaque
    root all that is below it. Raises MissingLayerError, naming what is gone or unreadable.
    """
    visible = []
    for diff_id in dict.fromkeys(reversed(diff_ids)):
        path = layers.readable_path(diff_id)
        sidecar = layers.sidecar(diff_id)
        visible.append(VisibleLayer(path, frozenset(sidecar.implicit_dirs)))
        if sidecar.root_opaque:
            break
    return visible


def _wanted(layers: Sequence[VisibleLayer], flavour: Flavour) -> set[bytes]:
    """Return the paths of the directories to fix, with all their parents (the root is ``b""``)."""
    wanted: set[bytes] = set()
    for path in sorted(frozenset().union(*(layer.implicit for layer in layers))):
        if path not in wanted and _differs(layers, path, flavour):
            wanted.update(_with_parents(path))
    return wanted


def _with_parents(path: bytes) -> Iterator[bytes]:
    while path:
        yield path
        path = path.rpartition(b"/")[0]
    yield b""


def _differs(layers: Sequence[VisibleLayer], path: bytes, flavour: Flavour) -> bool:
    """Return whether the topmost directory at *path* shows other metadata than it should."""
    describing = _describing(layers, path, flavour)
    if describing is None:
        return False
    try:
        topmost = _topmost(layers, path)
        try:
            return not same_attributes(describing, topmost)
        finally:
            os.close(topmost)
    finally:
        os.close(describing)


def _describing(layers: Sequence[VisibleLayer], path: bytes, flavour: Flavour) -> int | None:
    """Return a descriptor of the topmost directory at *path* that its layer describes.

    None if no layer describes the directory that shows at *path*, or if none shows there.
    """
    for layer in layers:
        fd, hides_below = _find(layer.path, path, flavour)
        if fd is not None:
            if path not in layer.implicit:
                return fd
            os.close(fd)
        if hides_below:
            return None
    return None


def _topmost(layers: Sequence[VisibleLayer], path: bytes) -> int:
    """Return a descriptor of the topmost directory at *path*, which is there in some layer."""
    for layer in layers:
        root = os.open(layer.path, _DIR)
        try:
            return open_beneath(root, path or b".", _DIR)
        except (FileNotFoundError, NotADirectoryError):
            continue
        finally:
            os.close(root)
    raise FileNotFoundError(path)


def _find(layer: str, path: bytes, flavour: Flavour) -> tuple[int | None, bool]:
    """Look for the directory *path* in one layer, never through a link.

    Return its descriptor, None if it is not there, and whether the layer hides the directory of
    that path in the layers below: by an opaque parent, a whiteout or anything else that is no
    directory. (If it is opaque itself, that hides what was in it, and does not make it another:
    image-spec layer.md, "Opaque Whiteout".)
    """
    fd = os.open(layer, _DIR)
    hides = False
    for name in path.split(b"/") if path else ():
        hides = hides or read_dir_marks(fd, flavour).opaque
        try:
            below = open_dir(fd, name)
        except FileNotFoundError:
            return None, hides
        except NotADirectoryError:
            return None, True
        finally:
            os.close(fd)
        fd = below
    return fd, hides


@contextmanager
def _opened(root: int, path: bytes) -> Iterator[int]:
    fd = open_beneath(root, path or b".", _DIR)
    try:
        yield fd
    finally:
        os.close(fd)
