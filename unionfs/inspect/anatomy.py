"""What each layer of an image adds, changes and deletes, and what is shipped and then hidden.

All layers are walked together, directory by directory, and each name's life is told from the bottom
layer up. Only one directory is held at a time, so memory does not grow with the image. Store layers
have no redirects (the importer lets none through), which makes a layer's paths the image's.
"""

from __future__ import annotations

import enum
import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from unionfs.inspect.stack import LayerName, Stack
from unionfs.ondisk.marks import read_dir_marks
from unionfs.union.layer import Part
from unionfs.union.scan import KIND, Scan, scan

_DIR, _FILE = stat.S_IFDIR, stat.S_IFREG
_NOWHERE: tuple[Part | None, Scan] = (None, Scan({}, frozenset(), False))


class Act(enum.Enum):
    """What a layer does to a path that the layers below it show, or do not."""

    ADDED = "added"
    CHANGED = "changed"
    DELETED = "deleted"


class Event(NamedTuple):
    """One thing that *layer* does at *path*.

    ``kind`` (``S_IF*``) and ``size`` are of what it brings, and for DELETED of what it takes away;
    sizes are bytes of content, counted once for all names of a file. ``hides`` is the layer whose
    file does not show any more because of this, and ``lost`` that file's bytes.
    """

    act: Act
    layer: LayerName
    path: bytes
    kind: int
    size: int
    hides: LayerName | None = None
    lost: int = 0


class _Frame(NamedTuple):
    """A directory: its part in each layer that has one, bottommost first, by place from below.

    ``cuts``: the places of layers at which all that the layers below have in it goes.
    """

    path: bytes
    parts: Sequence[tuple[int, Part]]
    cuts: frozenset[int]


class _Alive(NamedTuple):
    """What shows at a name, as of some layer."""

    place: int
    part: Part
    kind: int


def events(stack: Stack, opaque_roots: frozenset[bytes] = frozenset()) -> Iterator[Event]:
    """Yield what the layers of *stack* do, parents before children, sorted by name within each.

    *opaque_roots* are the directories of layers that hide everything below. Raises OSError.
    """
    return _Anatomy(stack).run(opaque_roots)


class _Anatomy:
    """One walk through all layers."""

    def __init__(self, stack: Stack) -> None:
        self._tree = stack.tree
        self._layers = list(reversed(stack.tree.layers))
        self._names = [stack.name_of(layer) for layer in self._layers]
        # Of files with several names in a layer: how many still show.
        self._links: dict[tuple[int, int], int] = {}

    def run(self, opaque_roots: frozenset[bytes]) -> Iterator[Event]:
        roots = [(place, layer.root) for place, layer in enumerate(self._layers)]
        cuts = {place for place, part in roots if part.layer.path in opaque_roots}
        cuts |= {place for place, part in roots if self._is_opaque(part)}
        pending = [_Frame(b"", roots, frozenset(cuts))]
        while pending:
            frame = pending.pop()
            below: list[_Frame] = []
            yield from self._directory(frame, below)
            pending.extend(reversed(below))

    def _is_opaque(self, part: Part) -> bool:
        marks = read_dir_marks(part.fd(), part.layer.flavour)
        part.whiteout_files = marks.whiteout_files
        return marks.opaque

    def _directory(self, frame: _Frame, below: list[_Frame]) -> Iterator[Event]:
        scans = [(place, part, scan(part)) for place, part in frame.parts]
        names = set[bytes]().union(*(found.entries for _, _, found in scans))
        for name in sorted(names):
            parts: list[tuple[int, Part]] = []
            cuts = set(frame.cuts)
            yield from self._life(frame, name, scans, parts, cuts)
            if parts:
                below.append(_Frame(frame.path + b"/" + name, parts, frozenset(cuts)))

    def _life(
        self,
        frame: _Frame,
        name: bytes,
        scans: Sequence[tuple[int, Part, Scan]],
        parts: list[tuple[int, Part]],
        cuts: set[int],
    ) -> Iterator[Event]:
        """Yield what happens to one name, and note its directories and where those are cut."""
        path = frame.path + b"/" + name
        alive: _Alive | None = None
        here: dict[int, tuple[Part | None, Scan]] = {
            place: (part, found) for place, part, found in scans
        }
        for place in sorted(here.keys() | frame.cuts):
            part, found = here.get(place, _NOWHERE)
            entry = found.entries.get(name)
            if entry is not None and part is not None:
                new = _Alive(place, part, entry & KIND)
                event = self._brought(path, new, alive, parts, cuts)
                alive = new
                if event is not None:
                    yield event
            elif alive is not None and (place in frame.cuts or name in found.whiteouts):
                cuts.add(place)
                yield self._deleted(place, path, alive)
                alive = None

    def _brought(
        self,
        path: bytes,
        new: _Alive,
        old: _Alive | None,
        parts: list[tuple[int, Part]],
        cuts: set[int],
    ) -> Event | None:
        """Return what bringing *new* does to *old*; None for a directory that is as it was."""
        if new.kind == _DIR:
            part = Part(new.part.layer, new.part, path.rpartition(b"/")[2], new.part.pool)
            parts.append((new.place, part))
            if self._is_opaque(part):
                cuts.add(new.place)
        elif old is not None and old.kind == _DIR:
            cuts.add(new.place)
        if old is None:
            return Event(Act.ADDED, self._names[new.place], path, new.kind, self._size(path, new))
        if new.kind == old.kind == _DIR:
            return self._changed_directory(path, new, old)
        layer, hides = self._names[new.place], self._names[old.place]
        size = self._size(path, new)
        return Event(Act.CHANGED, layer, path, new.kind, size, hides, self._lost(path, old))

    def _changed_directory(self, path: bytes, new: _Alive, old: _Alive) -> Event | None:
        now, was = (self._stat(path, each) for each in (new, old))
        if (now.st_mode, now.st_uid, now.st_gid) == (was.st_mode, was.st_uid, was.st_gid):
            return None
        return Event(Act.CHANGED, self._names[new.place], path, _DIR, 0, self._names[old.place])

    def _deleted(self, place: int, path: bytes, old: _Alive) -> Event:
        size = self._content(path, old)
        layer, hides = self._names[place], self._names[old.place]
        return Event(Act.DELETED, layer, path, old.kind, size, hides, self._lost(path, old))

    def _stat(self, path: bytes, one: _Alive) -> os.stat_result:
        return self._tree.stat_at(one.part, path.rpartition(b"/")[2])

    def _content(self, path: bytes, one: _Alive) -> int:
        return self._own_stat(path, one).st_size if one.kind == _FILE else 0

    def _own_stat(self, path: bytes, one: _Alive) -> os.stat_result:
        """Return a file's own attributes: its size and links are never written down elsewhere."""
        name = path.rpartition(b"/")[2]
        return os.stat(name, dir_fd=one.part.fd(), follow_symlinks=False)

    def _size(self, path: bytes, new: _Alive) -> int:
        """Return the bytes that a file brings: none under its second name."""
        if new.kind != _FILE:
            return 0
        st = self._own_stat(path, new)
        if st.st_nlink == 1:
            return st.st_size
        key = (new.place, st.st_ino)
        first = key not in self._links
        self._links[key] = self._links.get(key, st.st_nlink)
        return st.st_size if first else 0

    def _lost(self, path: bytes, old: _Alive) -> int:
        """Return the bytes that are lost with a name: all with a file's last one."""
        if old.kind != _FILE:
            return 0
        st = self._own_stat(path, old)
        if st.st_nlink == 1:
            return st.st_size
        key = (old.place, st.st_ino)
        self._links[key] -= 1
        return 0 if self._links[key] else st.st_size
