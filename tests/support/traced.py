"""Requests for tests of what is made of them: made up, or those of a mount."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from unionfs.container.tracing import Batch, read_events
from unionfs.inspect.event import Event


def asked(operation: str, path: str = "/f", **more) -> Event:
    """A request of one microsecond that succeeded, but for what is said."""
    about = {"start_ns": 1_700_000_000_000_000_000, "took_ns": 1000, "pid": 7, "command": "sh"}
    return Event(**{**about, "operation": operation, "path": path, **more})


@pytest.fixture
def traced() -> Iterator[Callable]:
    """Begin to trace a mount; ended with the test."""
    open_ones = []

    def begin(root: bytes) -> Iterator[Batch]:
        open_ones.append(read_events(root))
        assert next(open_ones[-1]) == Batch([], 0)
        return open_ones[-1]

    yield begin
    for one in open_ones:
        one.close()


def told(batches: Iterator[Batch]) -> list[Event]:
    """All that was done until now: a batch without events follows what there is."""
    found: list[Event] = []
    while batch := next(batches).events:
        found += batch
    return found
