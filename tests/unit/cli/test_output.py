"""Sizes, ages, tables and names as they stand on the screen."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from unionfs.cli import output

NOW = datetime(2024, 6, 15, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0B"),
        (7, "7B"),
        (999, "999B"),
        (1000, "1kB"),
        (1024, "1.02kB"),
        (999_940, "1MB"),
        (999_999, "1MB"),
        (12_345_678, "12.3MB"),
        (3_736_727, "3.74MB"),
        (64 << 30, "68.7GB"),
        (10**21, "1000EB"),
    ],
)
def test_sizes(count: int, shown: str) -> None:
    assert output.size(count) == shown


@pytest.mark.parametrize(
    ("created", "shown"),
    [
        ("2024-06-15T11:59:59Z", "just now"),
        ("2024-06-15T11:59:57.123456789Z", "2 seconds ago"),
        ("2024-06-15T11:58:59Z", "61 seconds ago"),
        ("2024-06-15T11:57:00Z", "3 minutes ago"),
        ("2024-06-15T10:00:00+00:00", "2 hours ago"),
        ("2024-06-15T14:00:00+05:00", "3 hours ago"),
        ("2024-06-12T12:00:00Z", "3 days ago"),
        ("2024-05-20T12:00:00Z", "3 weeks ago"),
        ("2024-02-15T12:00:00Z", "4 months ago"),
        ("2019-06-15T12:00:00Z", "5 years ago"),
        ("0001-01-01T00:00:00Z", "2024 years ago"),
        ("2030-01-01T00:00:00Z", "2030-01-01T00:00:00Z"),
        ("2024-06-15T12:00:00", "-"),
        ("yesterday", "-"),
        ("", "-"),
        (None, "-"),
    ],
)
def test_ages(created: str | None, shown: str) -> None:
    assert output.age(created, NOW) == shown


def test_tables_are_as_wide_as_their_content(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("A", "LONG", "C"), [("wide cell", "x", ""), ("y", "z", "last")])
    assert capsys.readouterr().out == (
        "A           LONG   C\nwide cell   x\ny           z      last\n"
    )


def test_fields_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_fields({"A": "x", "Long": ["1", "2"], "None": [], "Empty": ""})
    assert capsys.readouterr().out == ("A:      x\nLong:   1\n        2\nNone:   -\nEmpty:  -\n")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"/plain name", "/plain name"),
        ("/größe".encode(), "/größe"),
        (b"/new\nline\ttab", "/new\\012line\\011tab"),
        (b"/\x1b[31mred", "/\\033[31mred"),
        (b"/\xff\xfe", "/\\377\\376"),
        (b"/back\\slash", "/back\\134slash"),
        ("/\u202eltr".encode(), "/\\342\\200\\256ltr"),
    ],
)
def test_names_cannot_speak_to_the_terminal(name: bytes, shown: str) -> None:
    assert output.plain(name) == shown


def test_counts_have_their_plural() -> None:
    assert (output.counted(1, "layer"), output.counted(0, "layer")) == ("1 layer", "0 layers")


def test_what_an_image_says_does_not_speak_to_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.print_fields({"Created": "\x1b[31mred\x07", "Names": ["a\nb", "é\udcff\\"]})
    output.print_table(("A",), [("\x9b2J",)])
    told = capsys.readouterr().out
    assert told == (
        "Created:  \\033[31mred\\007\nNames:    a\\012b\n          é\\377\\\nA\n\\302\\2332J\n"
    )
