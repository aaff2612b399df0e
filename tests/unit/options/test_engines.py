"""docs/engines.md says of every option what the program does with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from unionfs import options
from unionfs.options import MountConfig, UnsupportedOptionError, apply_options

PAGE = Path(__file__).parents[3] / "docs" / "engines.md"
ROW = re.compile(r"^\| `(?P<option>[^`]+)` \| (?P<word>\w+) \|", re.MULTILINE)
ROWS = [(found["option"], found["word"]) for found in ROW.finditer(PAGE.read_text())]
BASE = MountConfig((), allow_other=True, suid=True)


def what_happens(option: str) -> str:
    try:
        config = apply_options(BASE, [option], privileged=True)
    except UnsupportedOptionError:
        return "refused"
    return "ignored" if config.ignored else "honoured"


@pytest.mark.parametrize(("option", "word"), ROWS)
def test_the_table_is_true(option, word):
    assert what_happens(option) == word


def test_no_option_is_left_out():
    listed = {option.partition("=")[0] for option, _ in ROWS}
    known = {*options._FLAGS, *options._VALUED}
    known |= {one.partition("=")[0] for one in (*options._MEANINGLESS, *options._REFUSED)}
    assert known <= listed


def test_nothing_is_there_twice():
    names = [option for option, _ in ROWS]
    assert len(names) == len(set(names)) > 70
