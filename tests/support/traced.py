"""Requests for tests of what is made of them: made up, or those of a mount."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from unionfs.container.tracing import Batch, read_events
from unionfs.inspect import piece
from unionfs.inspect.event import Event
from unionfs.inspect.piece import Piece
from unionfs.inspect.records import NODE, RECORD
from unionfs.inspect.statistics import OPERATIONS

_OPCODES = {name: opcode for opcode, name in OPERATIONS.items()}


def asked(operation: str, path: str = "/f", **more) -> Event:
    """A request of one microsecond that succeeded, but for what is said."""
    about = {"start_ns": 1_700_000_000_000_000_000, "took_ns": 1000, "pid": 7, "command": "sh"}
    return Event(**{**about, "operation": operation, "path": path, **more})


def piece_of(events: Iterable[Event], *, base: int = 0, clock: int = 3) -> Piece:
    """The piece that tells of *events*; each path is half a node's and half a name."""
    numbers: dict[tuple[bytes, bytes], int] = {}
    records, heap = [], b""
    for event in events:
        path, first = _halves(event.path)
        above, other = _halves(event.other)
        node, second = (numbers.setdefault((at, b""), len(numbers) + 1) for at in (path, above))
        shown = numbers.setdefault((b"", event.layer.encode()), len(numbers) + 1)
        opcode = _OPCODES.get(event.operation) or int(event.operation.removeprefix("opcode_"))
        command = event.command.encode("utf-8", "surrogateescape")
        records.append(
            RECORD.pack(
                event.start_ns - clock, event.took_ns, node, second, shown, event.size,
                event.offset, base + len(heap) & 0xFFFFFFFF, event.pid, event.errno, opcode,
                event.extension, len(first), len(other), command,
            )
        )  # fmt: skip
        heap += first + other
    nodes = [
        NODE.pack(number, len(path), len(layer)) + path + layer
        for (path, layer), number in numbers.items()
    ]
    return Piece(b"".join(nodes), b"".join(records), heap, base, clock)


def _halves(path: str) -> tuple[bytes, bytes]:
    above, _, name = path.encode("utf-8", "surrogateescape").rpartition(b"/")
    return above or (b"/" if path else b""), name


def decoded(reply: bytes) -> tuple[list[Event], int, bool]:
    """The requests in *reply*, how many were lost, and whether more is waiting."""
    pieces, lost, more = piece.decoded(reply)
    return [event for one in pieces for event in one.events()], lost, more


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
