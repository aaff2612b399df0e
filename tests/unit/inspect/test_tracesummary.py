"""What requests add up to."""

from __future__ import annotations

import errno

from tests.support.traced import asked
from unionfs.inspect.tracesummary import Summary, mean


def test_sums_by_operation_those_that_took_most_first():
    summary = Summary()
    summary.add([asked("lookup", took_ns=100), asked("read", took_ns=600)])
    summary.add([asked("lookup", took_ns=300, errno=errno.ENOENT)])
    summary.add([])
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
    assert (summary.all.count, summary.all.errors, summary.all.total_ns) == (3, 1, 1000)
    assert mean(summary.all) == 1000 / 3


def test_nothing_is_no_division():
    summary = Summary()
    assert (summary.document(), summary.share(summary.all), mean(summary.all)) == ({}, 0, 0)
    summary.add([asked("forget", took_ns=0), asked("open", took_ns=0, errno=errno.ENOSYS)])
    assert summary.document()["open"]["errors"] == 0
    assert summary.document()["forget"]["percent"] == 0
