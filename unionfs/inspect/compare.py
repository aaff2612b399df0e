"""What differs between two images, file by file.

Directories that both have from the same layers are the same without a look: of two images with a
common base only what is above it is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from unionfs.inspect.stack import Stack
from unionfs.syscalls import xattr
from unionfs.syscalls.compare import same_bytes
from unionfs.union.node import Node

_DIR, _FILE, _LINK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK


class Difference(NamedTuple):
    """One path that differs: *kind* is ``A`` (new in the second), ``D`` (lost there), ``C``.

    ``what`` says what of it changed: type, content, mode, owner, time, attributes.
    """

    kind: str
    path: bytes
    what: tuple[str, ...] = ()


def differences(first: Stack, second: Stack) -> Iterator[Difference]:
    """Yield what differs between two trees, sorted by path within each directory.

    Access and change times do not count, nor do the times of directories. Raises OSError.
    """
    pending = [(first.tree.root, second.tree.root, b"")]
    comparison = _Comparison(first, second)
    while pending:
        old, new, path = pending.pop()
        below = []
        for name, was, now in comparison.names(old, new):
            here = path + b"/" + name
            if was is None or now is None:
                yield from comparison.whole(was, now, here)
                continue
            what = comparison.what(was, now)
            if what:
                yield Difference("C", here, what)
            if was.is_dir and now.is_dir:
                below.append((was, now, here))
            elif was.is_dir or now.is_dir:
                yield from comparison.below(first, was, here, "D")
                yield from comparison.below(second, now, here, "A")
        pending.extend(reversed(below))
        old.children = new.children = None  # this much memory at a time and no more


class _Comparison:
    """Two trees side by side."""

    def __init__(self, first: Stack, second: Stack) -> None:
        self._first = first
        self._second = second

    def names(self, old: Node, new: Node) -> Iterator[tuple[bytes, Node | None, Node | None]]:
        """Yield the names of two directories with their nodes; of equal directories none."""
        if _origin(self._first, old) == _origin(self._second, new):
            return
        was, now = self._first.tree.load(old), self._second.tree.load(new)
        for name in sorted(was.keys() | now.keys()):
            yield name, was.get(name), now.get(name)

    def whole(self, old: Node | None, new: Node | None, path: bytes) -> Iterator[Difference]:
        """Yield a path that one of the two lacks, and all that is below it."""
        kind, stack, node = ("A", self._second, new) if old is None else ("D", self._first, old)
        assert node is not None
        yield Difference(kind, path)
        yield from self.below(stack, node, path, kind)

    def below(self, stack: Stack, top: Node, path: bytes, kind: str) -> Iterator[Difference]:
        """Yield all that is below the directory *top* as of one *kind*; nothing for a file."""
        pending = [(top, path)] if top.is_dir else []
        while pending:
            node, at = pending.pop()
            for name, child in sorted(stack.tree.load(node).items()):
                here = at + b"/" + name
                yield Difference(kind, here)
                if child.is_dir:
                    pending.append((child, here))
            node.children = None

    def what(self, old: Node, new: Node) -> tuple[str, ...]:
        """Return what differs between two files or directories of the same path."""
        if _origin(self._first, old) == _origin(self._second, new):
            return ()
        if old.kind != new.kind:
            return ("type",)
        was, now = self._first.tree.stat(old), self._second.tree.stat(new)
        checks = {
            "content": not self._same_content(old, new, was, now),
            "mode": was.st_mode != now.st_mode,
            "owner": (was.st_uid, was.st_gid) != (now.st_uid, now.st_gid),
            "time": old.kind != _DIR and was.st_mtime_ns != now.st_mtime_ns,
            "attributes": self._attributes(self._first, old) != self._attributes(self._second, new),
        }
        return tuple(name for name, differs in checks.items() if differs)

    def _same_content(self, old: Node, new: Node, was: os.stat_result, now: os.stat_result) -> bool:
        if old.kind == _LINK:
            return self._first.tree.readlink(old) == self._second.tree.readlink(new)
        if old.kind != _FILE:
            return was.st_rdev == now.st_rdev
        return was.st_size == now.st_size and self._same_bytes(old, new)

    def _same_bytes(self, old: Node, new: Node) -> bool:
        with (
            os.fdopen(self._first.tree.open(old, os.O_RDONLY), "rb", buffering=0) as one,
            os.fdopen(self._second.tree.open(new, os.O_RDONLY), "rb", buffering=0) as other,
        ):
            return same_bytes(one.fileno(), other.fileno())

    @staticmethod
    def _attributes(stack: Stack, node: Node) -> dict[bytes, bytes]:
        names = stack.tree.names_of(node)
        found = {}
        for name, value in xattr.get_all(stack.tree.target(node)).items():
            public = names.from_disk(name)
            if public is not None and not names.is_reserved(public):
                found[public] = value
        return found


def _origin(stack: Stack, node: Node) -> object:
    """Return what two trees have the same of exactly if both read a node from the same places."""
    if node.is_dir:
        return [(part.layer.path, part.path()) for part in stack.tree.ready(node)]
    assert node.source is not None  # an image has no upper
    return node.source.layer.path, node.source.path(), node.source_name
