"""Counting requests without keeping them."""

from __future__ import annotations

import json

import pytest

from unionfs.inspect.statistics import BUCKETS, Operation, operations_of


def noted(*times: int) -> Operation:
    operation = Operation()
    for took in times:
        operation.note(took)
    return operation


def test_what_is_noted_counts():
    one = noted(0, 1, 2, 3, 4, 1000)
    assert (one.count, one.total_ns, one.longest_ns) == (6, 1010, 1000)
    assert one.buckets[:4] == [2, 2, 1, 0] and one.buckets[9] == 1


def test_no_time_is_too_long():
    assert noted(1 << 60).buckets[BUCKETS - 1] == 1


@pytest.mark.parametrize(
    ("percent", "least", "most"),
    [(50, 64, 128), (90, 64, 128), (99, 4096, 5000), (100, 5000, 5000)],
)
def test_a_percentile_is_in_its_bucket(percent, least, most):
    one = noted(*[100] * 95, *[5000] * 5)
    assert least <= one.percentile(percent) <= most


def test_none_is_zero():
    assert noted().percentile(99) == 0


def test_what_came_since():
    before, now = noted(10, 20), noted(10, 20, 3000)
    since = now.since(before)
    assert (since.count, since.total_ns, sum(since.buckets)) == (1, 3000, 1)


def test_a_document_says_all_of_it():
    one = noted(10, 20, 3000)
    one.errors = 2
    document = json.loads(json.dumps({"requests": {"read": one.document()}}))
    assert operations_of(document) == {"read": one}
