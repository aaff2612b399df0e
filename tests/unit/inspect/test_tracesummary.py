"""What requests add up to."""

from __future__ import annotations

import errno
import random

from tests.support.traced import asked, piece_of
from unionfs.inspect.tracesummary import Sum, Summary


def test_sums_by_operation_those_that_took_most_first():
    summary = Summary()
    summary.add(piece_of([asked("lookup", took_ns=100), asked("read", took_ns=600)]))
    summary.add(piece_of([asked("lookup", took_ns=300, errno=errno.ENOENT)]))
    summary.add(piece_of([]))
    assert summary.document() == {
        "read": {
            "percent": 60.0, "total_ns": 600, "mean_ns": 600, "longest_ns": 600,
            "count": 1, "errors": 0,
        },
        "lookup": {
            "percent": 40.0, "total_ns": 400, "mean_ns": 200, "longest_ns": 300,
            "count": 2, "errors": 1,
        },
    }  # fmt: skip
    assert list(summary.document()) == ["read", "lookup"]
    assert summary.all() == Sum(3, 1, 1000, 600)
    assert summary.all().mean_ns == 1000 / 3


def test_nothing_is_no_division():
    summary = Summary()
    nothing = summary.all()
    assert (summary.document(), summary.share(nothing), nothing.mean_ns) == ({}, 0, 0)
    events = [asked("forget", took_ns=0), asked("open", took_ns=0, errno=errno.ENOSYS)]
    summary.add(piece_of(events))
    assert summary.document()["open"]["errors"] == 0
    assert summary.document()["forget"]["percent"] == 0


def test_columns_give_what_one_by_one_would() -> None:
    chance = random.Random(5)
    operations, errors = ("lookup", "open", "flush", "write", "opcode_63"), (0, 0, 2, 5, 38)
    summary, events = Summary(), []
    for _ in range(20):
        some = [
            asked(
                chance.choice(operations), errno=chance.choice(errors), took_ns=chance.randrange(99)
            )
            for _ in range(chance.randrange(30))
        ]
        events += some
        summary.add(piece_of(some))
    for name, one in summary.ordered():
        its = [event for event in events if event.operation == name]
        times = [event.took_ns for event in its]
        failed = sum(event.failed for event in its)
        assert one == Sum(len(its), failed, sum(times), max(times))
    assert summary.all().count == len(events)
