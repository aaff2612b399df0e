"""What a mount's requests read of its layers, and what they changed: by file, added up.

A file is *read* once it was opened, read from or, being a link, followed; it is *seen* once any
request about it was answered. Bytes are counted in two ways: each byte of a file once, and as often
as it was asked for.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

from unionfs.inspect.event import Event
from unionfs.inspect.stack import UPPER

_OPENING = frozenset(("open", "readlink"))
# What a successful request does to the file at its path, or to the other one of two.
_CHANGES = {
    "create": "created",
    "mknod": "created",
    "mkdir": "created",
    "symlink": "created",
    "link": "linked",
    "unlink": "removed",
    "rmdir": "removed",
    "rename": "renamed",
    "rename2": "renamed",
    "write": "written",
    "fallocate": "written",
    "copy_file_range": "written",
    "setattr": "attributes",
    "setxattr": "attributes",
    "removexattr": "attributes",
}


class Ranges:
    """Bytes of a file, each of them once."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        """Add the bytes from *start* to before *end*."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)  # the first that reaches so far
        behind = bisect_right(self._starts, end)  # the first that begins later
        if first < behind:
            start, end = min(start, self._starts[first]), max(end, self._ends[behind - 1])
        self._starts[first:behind] = [start]
        self._ends[first:behind] = [end]

    @property
    def bytes(self) -> int:
        """How many they are."""
        return sum(self._ends) - sum(self._starts)


@dataclass(slots=True)
class Used:
    """What was asked of one path while one layer showed it.

    ``opens`` counts a link's followings too; ``in_all`` is the bytes that came, ``ranges`` which.
    """

    path: bytes
    layer: str
    opens: int = 0
    reads: int = 0
    in_all: int = 0
    ranges: Ranges = field(default_factory=Ranges)

    @property
    def was_read(self) -> bool:
        """Whether its content was wanted."""
        return self.opens > 0 or self.reads > 0


@dataclass(slots=True)
class Changed:
    """What was done to one path, in order, each act once; ``wrote`` is the bytes that were written.

    ``layer`` is the one that showed the path before, as in an event; empty where none is known.
    ``other`` is where it was renamed or linked to.
    """

    path: bytes
    acts: dict[str, None] = field(default_factory=dict)
    wrote: int = 0
    layer: str = ""
    other: bytes = b""


class Reads:
    """The files that requests were about: ``used`` by layer and path, ``changed`` by path."""

    def __init__(self) -> None:
        self.used: dict[tuple[str, bytes], Used] = {}
        self.changed: dict[bytes, Changed] = {}
        self.count = 0
        self._below: dict[
            bytes, str
        ] = {}  # the layer that showed a path, where it is not the upper

    def add(self, event: Event) -> None:
        """Count *event*; one that failed changes nothing and shows nothing."""
        self.count += 1
        if not event.failed and event.path:
            self._answered(event)

    def _answered(self, event: Event) -> None:
        path = event.path.encode("utf-8", "surrogateescape")
        act = _CHANGES.get(event.operation)
        if act is not None:
            self._change(event, path, act)
        elif event.layer:
            self._use(event, path)

    def _use(self, event: Event, path: bytes) -> None:
        key = event.layer, path
        one = self.used.get(key)
        if one is None:
            one = self.used[key] = Used(path, event.layer)
            if event.layer != UPPER:
                self._below[path] = event.layer
        if event.operation in _OPENING:
            one.opens += 1
        elif event.operation == "read":
            one.reads += 1
            one.in_all += event.size
            one.ranges.add(event.offset, event.offset + event.size)

    def _change(self, event: Event, path: bytes, act: str) -> None:
        one = self.changed.get(path)
        if one is None:
            one = self.changed[path] = Changed(path, layer=self._below.get(path, ""))
        one.acts[act] = None
        if event.operation == "write":
            one.wrote += event.size
        if event.other:
            one.other = event.other.encode("utf-8", "surrogateescape")
