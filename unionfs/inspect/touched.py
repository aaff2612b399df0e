"""How much of each layer of a stack was touched: what requests read, beside what there is.

What a layer has is read from its directory, by the driver's own way, one directory at a time; of
files only those are kept that requests were about.
"""

from __future__ import annotations

import stat
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from unionfs.inspect.anatomy import events
from unionfs.inspect.reads import Reads, Used
from unionfs.inspect.stack import LayerName, Source, Stack


@dataclass(slots=True)
class Holding:
    """What a layer has: files, all but directories, and *size* bytes in them; *sizes* of some."""

    files: int = 0
    size: int = 0
    sizes: dict[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Share:
    """What was read of layers: *held* is what they have, None where that is not known.

    *seen* and *files* are the files that were looked at and read (``reads``), *once* and *in_all*
    bytes. Where nothing is known, and in the upper, *seen* counts directories too: nothing tells
    them apart.
    """

    held: Holding | None
    seen: int = 0
    files: int = 0
    once: int = 0
    in_all: int = 0

    def __add__(self, other: object) -> Share:
        """Return both together; what they have is known if it is of each."""
        if not isinstance(other, Share):
            return NotImplemented
        held = None
        if self.held is not None and other.held is not None:
            held = Holding(self.held.files + other.held.files, self.held.size + other.held.size)
        return Share(
            held,
            self.seen + other.seen,
            self.files + other.files,
            self.once + other.once,
            self.in_all + other.in_all,
        )


def called_in_events(layer: LayerName) -> str:
    """Return what events call *layer*."""
    return str(layer.number) if layer.number is not None else layer.label


def holding(source: Source, layer: LayerName, wanted: Collection[bytes]) -> Holding:
    """Return what *layer* of *source* has, with the sizes of those of its files that are *wanted*.

    Raises BadLayerError where its directory is not there any more, and OSError.
    """
    found = Holding()
    alone = replace(source, layers=(layer,), upper=False)
    with Stack(alone) as stack:
        for event in events(stack):
            if event.kind != stat.S_IFDIR:
                found.files += 1
                found.size += event.size
                if event.path in wanted:
                    found.sizes[event.path] = event.size
    return found


def used_by_layer(reads: Reads) -> Mapping[str, Sequence[Used]]:
    """Return what was used of each layer, by what events call it."""
    found = defaultdict(list)
    for one in reads.used.values():
        found[one.layer].append(one)
    return found


def share(held: Holding | None, used: Sequence[Used]) -> Share:
    """Return what *used*, the paths that a layer showed, makes of what it has (*held*)."""
    read = [one for one in used if one.was_read]
    return Share(
        held,
        sum(held is None or one.was_read or one.path in held.sizes for one in used),
        len(read),
        sum(one.ranges.bytes for one in read),
        sum(one.in_all for one in read),
    )
