"""What a container changed, as ``docker diff`` says it.

Two trees over the same layers, one without the upper, are walked together, but only where the upper
has a directory of its own: the time grows with the changes and not with the image.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from unionfs.ondisk.flavour import Flavour
from unionfs.union.layer import FdPool, Layer
from unionfs.union.node import Node
from unionfs.union.tree import Tree

_DESCRIPTORS = 512


class Change(NamedTuple):
    """One changed path: *kind* is ``A`` (added), ``C`` (changed) or ``D`` (deleted).

    *path* is absolute in the container. A deleted directory is one change; an added one is
    followed by what it holds.
    """

    kind: str
    path: bytes


def changes(lowers: Sequence[bytes], upper: bytes, flavour: Flavour) -> Iterator[Change]:
    """Yield what *upper* changes over *lowers* (topmost first), sorted by path.

    Reads directories only, mounted or not. Raises BadLayerError and OSError.
    """
    pools = (FdPool(_DESCRIPTORS), FdPool(_DESCRIPTORS))
    before = _tree(lowers, flavour, pools[0], first=1)
    try:
        after = _tree((upper, *lowers), flavour, pools[1], first=0)
        try:
            yield from _flat(_compare(before, after, before.root, after.root, b""))
        finally:
            after.close()
    finally:
        before.close()


def _tree(paths: Sequence[bytes], flavour: Flavour, pool: FdPool, *, first: int) -> Tree:
    layers: list[Layer] = []
    try:
        for number, path in enumerate(paths, start=first):
            layers.append(Layer(path, number, flavour, pool))
    except BaseException:
        for layer in layers:
            layer.close()
        raise
    return Tree(layers, pool)


_Steps = Iterator["Change | _Steps"]


def _flat(steps: _Steps) -> Iterator[Change]:
    """Yield the changes of nested *steps*; directories may be deeper than Python's stack."""
    stack = [steps]
    while stack:
        step = next(stack[-1], None)
        if step is None:
            stack.pop()
        elif isinstance(step, Change):
            yield step
        else:
            stack.append(step)


def _compare(before: Tree, after: Tree, old: Node, new: Node, path: bytes) -> _Steps:
    """Yield the changes below two directories of the same path."""
    was, now = before.load(old), after.load(new)
    for name in sorted(was.keys() | now.keys()):
        here = path + b"/" + name
        child = now.get(name)
        if child is None:
            yield Change("D", here)
        elif name not in was:
            yield _added(after, child, here)
        else:
            yield _changed(before, after, was[name], child, here)


def _changed(before: Tree, after: Tree, old: Node, new: Node, path: bytes) -> _Steps:
    """Yield the changes of a path that both trees have."""
    if old.is_dir != new.is_dir:
        yield Change("C", path)
        if new.is_dir:
            yield _children_added(after, new, path)
    elif not new.is_dir:
        if new.source is None:
            yield Change("C", path)
    else:
        after.ready(new)
        if new.in_upper:
            yield Change("C", path)
            before.ready(old)
            yield _compare(before, after, old, new, path)


def _added(after: Tree, node: Node, path: bytes) -> _Steps:
    yield Change("A", path)
    if node.is_dir:
        yield _children_added(after, node, path)


def _children_added(after: Tree, node: Node, path: bytes) -> _Steps:
    for name, child in sorted(after.load(node).items()):
        yield _added(after, child, os.path.join(path, name))
