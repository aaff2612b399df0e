"""Where the bytes of an image are: by layer, by directory, and in which files.

Used by the report. It only adds up what ``anatomy.events`` tells, one directory of each layer at a
time and a fixed number of files, so memory grows with the directories of an image and not with its
files.
"""

from __future__ import annotations

import heapq
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from unionfs.inspect.anatomy import Act, Event
from unionfs.inspect.stack import LayerName


class Large(NamedTuple):
    """A file that *layer* ships."""

    size: int
    path: bytes
    layer: LayerName


@dataclass(slots=True)
class Folder:
    """What is below one directory: bytes of content and files shipped, and bytes that never show.

    The bytes of a file with several names are shipped with its first name and lost with its last,
    so of a directory more may be lost than it ships.
    """

    size: int = 0
    lost: int = 0
    files: int = 0
    folders: dict[bytes, Folder] = field(default_factory=dict)


class Footprint:
    """The directories of each layer (``layers``) and of all together (``whole``)."""

    def __init__(self, names: Sequence[LayerName], most: int) -> None:
        """Of the largest files, *most* are kept; *names* are the layers, topmost first."""
        self.layers = {name: Folder() for name in reversed(names)}
        self.whole = Folder()
        self._most = most
        self._order = {name: place for place, name in enumerate(names)}
        self._large: list[tuple[int, bytes, int, LayerName]] = []

    def noting(self, events: Iterable[Event]) -> Iterator[Event]:
        """Yield *events* as they are, and note where their bytes are."""
        for event in events:
            if event.act is not Act.DELETED and event.kind == stat.S_IFREG:
                self._shipped(event)
            if event.hides is not None and event.lost:
                for folder in self._way(event.hides, event.path):
                    folder.lost += event.lost
            yield event

    @property
    def largest(self) -> list[Large]:
        """The largest files, the largest first; a file that is shipped twice is there twice."""
        return [Large(size, path, layer) for size, path, _, layer in sorted(self._large)[::-1]]

    def _shipped(self, event: Event) -> None:
        for folder in self._way(event.layer, event.path):
            folder.size += event.size
            folder.files += 1
        entry = (event.size, event.path, self._order[event.layer], event.layer)
        if len(self._large) < self._most:
            heapq.heappush(self._large, entry)
        else:
            heapq.heappushpop(self._large, entry)

    def _way(self, layer: LayerName, path: bytes) -> Iterator[Folder]:
        """Yield the directories that lead to *path*, in *layer* and in the whole image."""
        for folder in (self.layers[layer], self.whole):
            at = folder
            yield at
            for name in path.split(b"/")[1:-1]:
                below = at.folders.get(name)
                if below is None:
                    below = at.folders[name] = Folder()
                at = below
                yield at
