"""What a container changed, as ``docker diff`` says it.

Two trees over the same layers, one without the upper, are walked together, but only where the upper
has a directory of its own: the time grows with the changes and not with the image. Only where a
file with several names was changed, all of the image is looked at for the others: they show the
copy too (``index``), and need not be in the upper.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.origin import Origin, filesystem_uuid
from unionfs.syscalls.handle import handle_of
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


def changes(
    lowers: Sequence[bytes], upper: bytes, work: bytes, flavour: Flavour
) -> Iterator[Change]:
    """Yield what *upper*, with its *work* directory, changes over *lowers* (topmost first), sorted
    by path.

    Reads only, mounted or not. Raises BadLayerError and OSError.
    """
    pools = (FdPool(_DESCRIPTORS), FdPool(_DESCRIPTORS))
    before = _tree(lowers, flavour, pools[0], first=1)
    try:
        after = _tree((upper, *lowers), flavour, pools[1], first=0)
        try:
            walk = _Comparison(before, after, linked(after, work + b"/index"))
            yield from _flat(walk.compare(before.root, after.root, b""))
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


class _Comparison:
    """The tree *before* and the one *after*, which knows the lower names *linked* to copies."""

    def __init__(self, before: Tree, after: Tree, linked: Mapping[bytes, bytes]) -> None:
        self._before = before
        self._after = after
        self._linked = linked
        self._above = {above for path in linked for above in parents(path)}

    def compare(self, old: Node, new: Node, path: bytes) -> _Steps:
        """Yield the changes below two directories of the same path."""
        was, now = self._before.load(old), self._after.load(new)
        for name in sorted(was.keys() | now.keys()):
            here = path + b"/" + name
            child = now.get(name)
            if child is None:
                yield Change("D", here)
            elif name not in was:
                yield _added(self._after, child, here)
            else:
                yield self._changed(was[name], child, here)

    def _changed(self, old: Node, new: Node, path: bytes) -> _Steps:
        """Yield the changes of a path that both trees have."""
        if old.is_dir != new.is_dir:
            yield Change("C", path)
            if new.is_dir:
                yield _children_added(self._after, new, path)
        elif not new.is_dir:
            if new.source is None or path in self._linked:
                yield Change("C", path)
        else:
            self._after.ready(new)
            if new.in_upper:
                yield Change("C", path)
            if new.in_upper or path in self._above:
                self._before.ready(old)
                yield self.compare(old, new, path)


def parents(path: bytes) -> Iterator[bytes]:
    """Yield the directories above *path* (which begins with a slash), but not the root."""
    while path := path.rpartition(b"/")[0]:
        yield path


def linked(tree: Tree, index: bytes) -> Mapping[bytes, bytes]:
    """Return the lower names whose file has a copy in the directory *index*: path to copy's name.

    Raises OSError.
    """
    try:
        copies = frozenset(os.listdir(index))
    except FileNotFoundError:
        copies = frozenset()
    if not copies:
        return {}
    uuids = {layer.number: filesystem_uuid(layer.root.fd()) for layer in tree.layers[1:]}
    found = {}
    for path, node in files(tree):
        if node.source is not None:
            copy = _copy_of(tree, node, uuids)
            if copy in copies:
                found[path] = copy
    return found


def files(tree: Tree) -> Iterator[tuple[bytes, Node]]:
    """Yield the path and the node of everything in *tree* that is no directory. Raises OSError."""
    pending = [(tree.root, b"")]
    while pending:
        directory, path = pending.pop()
        for name, node in tree.load(directory).items():
            here = path + b"/" + name
            if node.is_dir:
                pending.append((node, here))
            else:
                yield here, node


def _copy_of(tree: Tree, node: Node, uuids: Mapping[int, bytes | None]) -> bytes:
    """Return what a copy of the lower file *node* is called in an index, nothing if in none."""
    source = node.source
    assert source is not None
    uuid = uuids[source.layer.number]
    if uuid is None or tree.stat(node).st_nlink == 1:
        return b""
    try:
        handle = handle_of(source.fd(), node.source_name)
    except OSError:
        return b""  # the filesystem has no handles: then it has no index
    return Origin(uuid, handle).index_name()


def _added(after: Tree, node: Node, path: bytes) -> _Steps:
    yield Change("A", path)
    if node.is_dir:
        yield _children_added(after, node, path)


def _children_added(after: Tree, node: Node, path: bytes) -> _Steps:
    for name, child in sorted(after.load(node).items()):
        yield _added(after, child, os.path.join(path, name))
