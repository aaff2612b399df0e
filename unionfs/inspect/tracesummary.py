"""A mount's requests by operation, added up as they come; as ``strace -c`` does it for calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from unionfs.inspect.event import Event
from unionfs.inspect.statistics import Operation


class Summary:
    """What requests add up to: ``operations`` by name, ``all`` of them together."""

    def __init__(self) -> None:
        self.operations: dict[str, Operation] = {}
        self.all = Operation()

    def add(self, events: Iterable[Event]) -> None:
        """Count *events*."""
        for event in events:
            one = self.operations.setdefault(event.operation, Operation())
            for counted in (one, self.all):
                counted.note(event.took_ns)
                counted.errors += event.failed

    def ordered(self) -> list[tuple[str, Operation]]:
        """Return the operations, those that took most time first."""
        return sorted(self.operations.items(), key=lambda item: (-item[1].total_ns, item[0]))

    def share(self, one: Operation) -> float:
        """Return the percentage of all time that *one* took."""
        return 100 * one.total_ns / self.all.total_ns if self.all.total_ns else 0.0

    def document(self) -> dict[str, Any]:
        """Return it for JSON: times in nanoseconds."""
        return {
            name: {
                "percent": round(self.share(one), 3),
                "total_ns": one.total_ns,
                "mean_ns": round(mean(one)),
                "longest_ns": one.longest_ns,
                "count": one.count,
                "errors": one.errors,
            }
            for name, one in self.ordered()
        }


def mean(one: Operation) -> float:
    """Return how long a request of *one* took on average (ns), 0 without any."""
    return one.total_ns / one.count if one.count else 0.0
