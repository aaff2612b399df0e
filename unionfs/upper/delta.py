"""What a container changed, as a layer has to say it: each thing in full, in the order of a tar.

Two trees over the same layers, one without the upper, are walked together where the upper has a
directory of its own, so that the time grows with the changes and not with the image. What a
redirect brings to another path is there in full, since a layer cannot point into another. Names of
one file stay names of one file: where one of them is written, all are, so all of the image is
looked at for the others if the layer would not have them otherwise.

What was copied up and is as it was (opened for writing and not written, say) is left out. A
directory that is as it was is there where something below it is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from unionfs.ondisk import override
from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.override import AttributeNames
from unionfs.union.layer import FdPool, Layer
from unionfs.union.metacopy import open_readable
from unionfs.union.node import Node
from unionfs.union.override import OverrideTree
from unionfs.union.tree import Tree
from unionfs.upper.changes import files, linked, parents
from unionfs.upper.same import Same

_DESCRIPTORS = 512
_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_Identity = tuple[int, int]


@dataclass(slots=True)
class Item:
    """One thing that the layer provides: *path* without a leading slash, empty for the root.

    ``st`` is what it shows. Of a directory: ``opaque`` (nothing below it shows through) and
    ``gone``, the names that it hides. Else ``link``: the path of an earlier item that is the same
    file.
    """

    path: bytes
    node: Node
    st: os.stat_result
    opaque: bool = False
    gone: Sequence[bytes] = ()
    link: bytes | None = None


class _Found(NamedTuple):
    """A path (from the root's slash on) that the layer may have to provide, and what was there."""

    path: bytes
    old: Node | None
    new: Node
    opaque: bool = False
    gone: Sequence[bytes] = ()


_Steps = Iterator["_Found | _Steps"]


class Delta:
    """The changes of *upper*, with its *work* directory, over *lowers* (topmost first).

    Reads only; nobody else may change anything meanwhile. With *keep_unchanged* copies are there
    that nothing was changed in. ``close`` must be called. Raises BadLayerError and OSError.
    """

    def __init__(
        self,
        lowers: Sequence[bytes],
        upper: bytes,
        work: bytes,
        flavour: Flavour,
        *,
        keep_unchanged: bool = False,
    ) -> None:
        self._keep_unchanged = keep_unchanged
        self._before = _tree(lowers, flavour, first=1)
        try:
            self._after = _tree((upper, *lowers), flavour, first=0)
        except BaseException:
            self._before.close()
            raise
        self._same = Same(self._before, self._after)
        self._index_fd = -1
        try:
            self._linked = linked(self._after, work + b"/index")
            if self._linked:
                self._index_fd = os.open(work + b"/index", _DIR)
        except BaseException:
            self.close()
            raise
        self._also: set[bytes] = set(self._linked)
        self._above = {above for path in self._also for above in parents(path)}

    def items(self) -> Iterator[Item]:
        """Yield what the layer provides, parents first, each directory's names sorted.

        Raises OSError, and UnknownMarkError for what is on disk and not understood.
        """
        groups = self._whole_groups()
        unchanged = {identity for identity, group in groups.items() if self._is_unchanged(group)}
        first: dict[_Identity, bytes] = {}
        pending: list[Item] = []
        for found in self._walk():
            item = self._item(found)
            while pending and not _is_below(item.path, pending[-1].path):
                pending.pop()
            identity = (item.st.st_dev, item.st.st_ino)
            if found.new.is_dir:
                wanted = self._is_changed_directory(found, item)
            elif identity in groups:
                wanted = identity not in unchanged
                if first.setdefault(identity, item.path) != item.path:
                    item.link = first[identity]
            else:
                wanted = not self._is_unchanged([found])
            if wanted:
                yield from pending
                pending.clear()
                yield item
            elif found.new.is_dir:
                pending.append(item)

    def target(self, item: Item) -> int | bytes:
        """Return what extended-attribute calls take for *item*; good until the next item."""
        return self._after.target(item.node)

    def names(self, item: Item) -> AttributeNames:
        """Return what the attributes of *item* are called where it is."""
        return self._after.names_of(item.node)

    def open(self, item: Item) -> int:
        """Return a descriptor for reading the regular file *item*. Raises OSError."""
        return open_readable(self._after, item.node)

    def readlink(self, item: Item) -> bytes:
        """Return the target of the symbolic link *item*. Raises OSError."""
        return self._after.readlink(item.node)

    def close(self) -> None:
        """Close everything."""
        if self._index_fd >= 0:
            os.close(self._index_fd)
            self._index_fd = -1
        self._before.close()
        self._after.close()

    def _item(self, found: _Found) -> Item:
        st = self._after.stat(found.new)
        return Item(found.path[1:], found.new, st, found.opaque, found.gone)

    def _walk(self) -> Iterator[_Found]:
        """Yield what the layer may have to provide; directories may be deeper than the stack."""
        stack = [self._directory(self._before.root, self._after.root, b"")]
        while stack:
            step = next(stack[-1], None)
            if step is None:
                stack.pop()
            elif isinstance(step, _Found):
                yield step
            else:
                stack.append(step)

    def _directory(self, old: Node | None, new: Node, path: bytes) -> _Steps:
        """Yield the directory *new* and what is below it; *old* was at its path, if anything."""
        was: Mapping[bytes, Node] = {}
        merged = old is not None and self._is_merged(old, new)
        if old is not None and merged:
            was = self._before.load(old)
        # A layer cannot hold a socket: what it hides is gone all the same.
        now = {n: c for n, c in self._after.load(new).items() if c.kind != stat.S_IFSOCK}
        gone = sorted(was.keys() - now.keys())
        yield _Found(path, old, new, old is not None and not merged, gone)
        for name, child in sorted(now.items()):
            here = path + b"/" + name
            before = was.get(name)
            if child.is_dir:
                self._after.ready(child)
                if not merged or child.in_upper or here in self._above:
                    is_dir = before is not None and before.is_dir
                    yield self._directory(before if is_dir else None, child, here)
            elif not merged or child.source is None or here in self._also:
                self._lead_to_copy(child, here)
                yield _Found(here, before, child)

    def _is_merged(self, old: Node, new: Node) -> bool:
        """Return whether the directory *new* is *old* with changes: it has the same lower parts."""
        was = [(part.layer.number, part.path()) for part in self._before.ready(old)]
        self._after.ready(new)
        return was == [(part.layer.number, part.path()) for part in new.lower_parts()]

    def _lead_to_copy(self, node: Node, path: bytes) -> None:
        """Let *node*, a lower file with a copy in the index, be that copy."""
        copy = self._linked.get(path)
        if copy is not None and node.source is not None:
            node.source = None
            node.hidden = self._index_fd, copy

    def _whole_groups(self) -> dict[_Identity, list[_Found]]:
        """Return all files with several names that the layer may have to provide, with them all."""
        groups = self._groups()
        lacking = {
            identity
            for identity, group in groups.items()
            if any(found.new.source is not None for found in group)
            and self._after.stat(group[0].new).st_nlink > len(group)
        }
        if not lacking:
            return groups
        numbers = {number for _, number in lacking}
        for path, node in files(self._after):
            if node.born in numbers and node.source is not None:
                st = self._after.stat(node)
                if (st.st_dev, st.st_ino) in lacking:
                    self._also.add(path)
        self._above = {above for path in self._also for above in parents(path)}
        return self._groups()

    def _groups(self) -> dict[_Identity, list[_Found]]:
        groups: dict[_Identity, list[_Found]] = {}
        for found in self._walk():
            if not found.new.is_dir:
                st = self._after.stat(found.new)
                # The copy may have no name but that in the index, which its lower names lead to.
                if st.st_nlink > 1 or found.path in self._linked:
                    groups.setdefault((st.st_dev, st.st_ino), []).append(found)
        return groups

    def _is_unchanged(self, group: Sequence[_Found]) -> bool:
        """Return whether *group*, all names of a file, is what was there: one file, as it is."""
        if self._keep_unchanged:
            return False
        was = [self._before.stat(found.old) for found in group if found.old is not None]
        if len(was) < len(group) or was[0].st_nlink != len(group):
            return False
        if any((st.st_dev, st.st_ino) != (was[0].st_dev, was[0].st_ino) for st in was):
            return False
        old, new = group[0].old, group[0].new
        return old is not None and self._same.files(old, new)

    def _is_changed_directory(self, found: _Found, item: Item) -> bool:
        if found.old is None or found.opaque or found.gone:
            return True
        if self._keep_unchanged and found.new.in_upper:
            return True
        return not self._same.metadata(found.old, found.new)


def _is_below(path: bytes, directory: bytes) -> bool:
    return not directory or path.startswith(directory + b"/")


def _tree(paths: Sequence[bytes], flavour: Flavour, *, first: int) -> Tree:
    pool = FdPool(_DESCRIPTORS)
    layers: list[Layer] = []
    try:
        for number, path in enumerate(paths, start=first):
            # Layers of the store are plain: the importer lets no mark of a driver's through.
            layers.append(Layer(path, number, flavour, pool, plain=number > 0))
        for layer in layers:
            spelling = override.of_layer(layer.root.fd())
            if spelling is not None:
                layer.keep_owners_as(spelling)
        kind = OverrideTree if any(layer.override for layer in layers) else Tree
        return kind(layers, pool)
    except BaseException:
        for layer in layers:
            layer.close()
        raise
