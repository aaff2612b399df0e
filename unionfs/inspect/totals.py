"""What a walk through an image's layers adds up to: by layer, and what is wasted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from unionfs.inspect.anatomy import Act, Event
from unionfs.inspect.stack import LayerName


@dataclass(slots=True)
class Tally:
    """How many paths, directories among them, and how many bytes of content."""

    paths: int = 0
    bytes: int = 0

    def add(self, count: int) -> None:
        """Count one more path with *count* bytes."""
        self.paths += 1
        self.bytes += count


@dataclass(slots=True)
class LayerTotals:
    """What one layer does; ``deleted`` has the bytes that do not show any more: still shipped."""

    layer: LayerName
    added: Tally = field(default_factory=Tally)
    changed: Tally = field(default_factory=Tally)
    deleted: Tally = field(default_factory=Tally)

    @property
    def size(self) -> int:
        """The bytes of content that the layer brings."""
        return self.added.bytes + self.changed.bytes


class Waste(NamedTuple):
    """A file that is shipped in *layer* and never shows: *hider* changed or deleted it."""

    path: bytes
    bytes: int
    layer: LayerName
    hider: LayerName
    act: Act


@dataclass(slots=True)
class Totals:
    """The sums of a whole image: ``layers`` bottommost first, ``waste`` the largest first."""

    layers: Sequence[LayerTotals]
    waste: list[Waste]

    @property
    def size(self) -> int:
        """The bytes of content that the image ships."""
        return sum(layer.size for layer in self.layers)

    @property
    def wasted(self) -> int:
        """The bytes that are shipped and never show."""
        return sum(waste.bytes for waste in self.waste)

    @property
    def wasted_percent(self) -> float:
        """The share of the image that never shows."""
        return 100 * self.wasted / self.size if self.size else 0.0


def add_up(names: Sequence[LayerName], events: Iterable[Event]) -> Totals:
    """Return what *events* of the layers *names* (topmost first) add up to."""
    layers = {name: LayerTotals(name) for name in reversed(names)}
    waste = []
    for event in events:
        _count(layers[event.layer], event)
        if event.hides is not None and event.lost:
            waste.append(Waste(event.path, event.lost, event.hides, event.layer, event.act))
    waste.sort(key=lambda one: (-one.bytes, one.path))
    return Totals(list(layers.values()), waste)


def _count(totals: LayerTotals, event: Event) -> None:
    if event.act is Act.ADDED:
        totals.added.add(event.size)
    elif event.act is Act.CHANGED:
        totals.changed.add(event.size)
    else:
        totals.deleted.add(event.lost)


def by_hider(totals: Totals) -> dict[LayerName, int]:
    """Return the bytes that each layer hides of those below it, bottommost first."""
    found = {layer.layer: 0 for layer in totals.layers}
    for one in totals.waste:
        found[one.hider] += one.bytes
    return {layer: lost for layer, lost in found.items() if lost}
