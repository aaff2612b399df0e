"""The bench's numbers: medians, ratios, and a table with a dash where nothing was measured."""

from __future__ import annotations

import argparse
import os
import time

import pytest

from scripts.bench.daemon import cpu_ms
from scripts.bench.stats import Measured, table
from scripts.bench.words import count, some_of


def _measured(**values: list[float]) -> Measured:
    row = Measured("find", "ms")
    for contender, numbers in values.items():
        for number in numbers:
            row.add(contender, number)
    return row


def test_the_median_is_the_middle_not_the_mean() -> None:
    assert _measured(a=[1, 100, 2]).median("a") == 2
    assert _measured(a=[1, 2]).median("a") == 1.5


def test_a_ratio_is_of_medians() -> None:
    assert _measured(a=[30, 10, 20], b=[40, 40]).ratio("a", "b") == 0.5


@pytest.mark.parametrize("values", [{"a": [1]}, {"b": [1]}, {"a": [1], "b": [0]}])
def test_there_is_no_ratio_without_two_numbers(values: dict[str, list[float]]) -> None:
    assert _measured(**values).ratio("a", "b") is None


def test_the_table_shows_the_baseline_without_a_ratio() -> None:
    text = table([_measured(a=[10], b=[40])], ["a", "b"], "b")
    assert text.splitlines()[1].split() == ["find", "ms", "10.0", "0.25x", "40.0"]


def test_a_contender_without_a_value_is_a_dash() -> None:
    text = table([_measured(b=[4000])], ["a", "b"], "b")
    assert text.splitlines()[1].split() == ["find", "ms", "-", "4000"]


def test_the_columns_are_aligned() -> None:
    rows = [_measured(a=[1.234], b=[12345]), Measured("a-long-name", "MiB", {"b": [2]})]
    lines = table(rows, ["a", "b"], "b").splitlines()
    assert len({len(line) for line in lines}) == 1


def test_an_unknown_row_is_refused_by_name() -> None:
    parse = some_of(["x", "y", "z"])
    assert parse("z,x") == ["x", "z"]
    with pytest.raises(argparse.ArgumentTypeError, match="unknown: what"):
        parse("x,what")


@pytest.mark.parametrize("text", ["0", "-1", "many", ""])
def test_a_number_of_runs_is_one_at_least(text: str) -> None:
    assert count("12") == 12
    with pytest.raises(argparse.ArgumentTypeError, match=repr(text)):
        count(text)


def test_a_processs_cpu_time_is_what_it_says_itself() -> None:
    before = time.process_time() * 1000
    told = cpu_ms(os.getpid())
    assert before <= told <= time.process_time() * 1000
