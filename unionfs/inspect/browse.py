"""A stack as of one of its layers, directory by directory: what is there, and what that layer did.

Used by the terminal explorer. Two trees of the driver are read side by side, one with the layer on
top and one without it, and only where somebody looks. A path is what is compared: below a directory
that was renamed everything is new, as it is to whoever looks at the mount.
"""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import NamedTuple

from unionfs.inspect.stack import Source, Stack
from unionfs.union.node import Node

_FILE = stat.S_IFREG


class State(enum.Enum):
    """What the layer did to a path, against the layers below it."""

    SAME = "same"
    ADDED = "added"
    CHANGED = "changed"
    DELETED = "deleted"


class Entry(NamedTuple):
    """One name of a directory; of what is deleted, what was there before.

    ``size`` is bytes of content. ``touched``: a directory that the layer has, so that something
    below it may differ though it does not itself.
    """

    name: bytes
    kind: int
    size: int
    state: State
    touched: bool = False

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self.kind == stat.S_IFDIR

    @property
    def differs(self) -> bool:
        """Whether it belongs to the changes of the layer."""
        return self.touched or self.state is not State.SAME


def as_of(source: Source, place: int) -> Source:
    """Return *source* without the *place* topmost of its layers."""
    if place == 0:
        return source
    layers = source.layers[place:]
    return replace(source, layers=layers, upper=False, work=None, read_only=True)


class View:
    """*source* as of its layer at *place*, counted from the top and from 0."""

    def __init__(self, source: Source, place: int) -> None:
        """Open the layers. Raises BadLayerError and OSError."""
        self._now = Stack(as_of(source, place))
        below = place + 1 < len(source.layers)
        try:
            self._below = Stack(as_of(source, place + 1)) if below else None
        except BaseException:
            self._now.tree.close()
            raise

    def __enter__(self) -> View:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the layers."""
        self._now.tree.close()
        if self._below is not None:
            self._below.tree.close()

    def entries(self, path: bytes) -> list[Entry]:
        """Return what is in the directory *path*, sorted by name, deleted names included.

        Nothing if it is no directory, now or before. Raises OSError.
        """
        now, before = _children(self._now, path), _children(self._below, path)
        names = sorted(now.keys() | before.keys())
        return [self._entry(name, now.get(name), before.get(name)) for name in names]

    def _entry(self, name: bytes, now: Node | None, before: Node | None) -> Entry:
        if now is None:
            assert before is not None and self._below is not None
            return _described(name, self._below, before, State.DELETED)
        if before is None or self._below is None:
            return _described(name, self._now, now, State.ADDED)
        if _origin(self._now, now) == _origin(self._below, before):
            return _described(name, self._now, now, State.SAME)
        if now.is_dir and before.is_dir and self._looks_the_same(now, before):
            return _described(name, self._now, now, State.SAME)._replace(touched=True)
        found = _described(name, self._now, now, State.CHANGED)
        return found._replace(touched=now.is_dir)

    def _looks_the_same(self, now: Node, before: Node) -> bool:
        assert self._below is not None
        new, old = self._now.tree.stat(now), self._below.tree.stat(before)
        return (new.st_mode, new.st_uid, new.st_gid) == (old.st_mode, old.st_uid, old.st_gid)


def _children(stack: Stack | None, path: bytes) -> dict[bytes, Node]:
    node: Node | None = None if stack is None else stack.tree.root
    for name in path.split(b"/"):
        if name and node is not None and stack is not None:
            node = stack.tree.lookup(node, name) if node.is_dir else None
    return stack.tree.load(node) if stack is not None and node is not None and node.is_dir else {}


def _described(name: bytes, stack: Stack, node: Node, state: State) -> Entry:
    size = stack.tree.stat(node).st_size if node.kind == _FILE else 0
    return Entry(name, node.kind, size, state)


def _origin(stack: Stack, node: Node) -> object:
    """Return what is the same of two nodes exactly if they are read from the same places."""
    if node.is_dir:
        return [(part.layer.path, part.path()) for part in stack.tree.ready(node)]
    if node.source is None:
        return None, node.path()
    return node.source.layer.path, node.source.path(), node.source_name


def sizes(source: Source, place: int, going: Callable[[], bool]) -> dict[bytes, int]:
    """Return the bytes of all files below each directory of *source* as of the layer at *place*.

    A file with several names counts once. Ends early, with what it has, when *going* says no.
    Raises OSError.
    """
    found: dict[bytes, int] = {}
    seen: set[tuple[int, int]] = set()
    with Stack(as_of(source, place)) as stack:
        for path, children in _walk(stack, going):
            here = 0
            for node in children.values():
                if node.kind != _FILE:
                    continue
                st = stack.tree.stat(node)
                if st.st_nlink > 1 and (st.st_dev, st.st_ino) in seen:
                    continue
                if st.st_nlink > 1:
                    seen.add((st.st_dev, st.st_ino))
                here += st.st_size
            found[path] = here
    for path in sorted(found, key=lambda one: one.count(b"/"), reverse=True):
        if path != b"/":
            found[parent_of(path)] += found[path]
    return found


def upper_size(source: Source) -> int:
    """Return the bytes of all files that the upper of *source* holds. Raises OSError."""
    total = 0
    pending = [source.layers[0].path]
    while pending:
        with os.scandir(pending.pop()) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def find(source: Source, place: int, text: bytes, going: Callable[[], bool]) -> Iterator[bytes]:
    """Yield the paths whose last name has *text* in it, in whatever case. Raises OSError."""
    wanted = text.lower()
    with Stack(as_of(source, place)) as stack:
        for path, children in _walk(stack, going):
            for name in sorted(children):
                if wanted in name.lower():
                    yield path.rstrip(b"/") + b"/" + name


def parent_of(path: bytes) -> bytes:
    """Return the directory that *path* is in; of the root, the root."""
    return path.rpartition(b"/")[0] or b"/"


def _walk(stack: Stack, going: Callable[[], bool]) -> Iterator[tuple[bytes, dict[bytes, Node]]]:
    """Yield every directory with what is in it; only one is in memory at a time."""
    pending = [(b"/", stack.tree.root)]
    while pending and going():
        path, node = pending.pop()
        children = stack.tree.load(node)
        yield path, children
        below = path.rstrip(b"/") + b"/"
        names = sorted((name for name in children if children[name].is_dir), reverse=True)
        pending += [(below + name, children[name]) for name in names]
        node.children = None
