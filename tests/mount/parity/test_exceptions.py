"""The exceptions table: each row stands for a difference that is really there, and no more."""

from __future__ import annotations

import itertools
import os
import stat

import pytest

from tests.support import parity
from tests.support.fixtures import arena, mount_union  # noqa: F401
from tests.support.mounts import KERNEL_OPTIONS, METACOPY_OPTIONS
from tests.support.ops import Op
from tests.support.overlay_run import run
from tests.support.stacks import Dir, Fifo, File, Link, Whiteout

LONG = b"n" * 255
_removed = [Op("open", (0, b"d/f", os.O_RDONLY)), Op("unlink", (b"d/f",))]
CASES = {
    ("rename", "success"): ([File(LONG + b"/d/f")], [Op("rename", (LONG + b"/d", b"moved"))]),
    ("rename", "E*"): (
        [File(LONG + b"/d/f")],
        [
            Op("mkdir", (b"full", 0o755)),
            Op("mkdir", (b"full/x", 0o755)),
            Op("rename", (LONG + b"/d", b"full")),
        ],
    ),
    ("tree.nlink *", "*"): ([File(b"a"), Link(b"b", b"a")], [Op("compare", ())]),
    ("stat.nlink", "*"): ([File(b"a"), Link(b"b", b"a")], [Op("stat", (b"a",))]),
    ("hstat.nlink", "*"): (
        [File(b"a"), Link(b"b", b"a")],
        [Op("open", (0, b"a", 0)), Op("hstat", (0,))],
    ),
    ("tree.name fifo", "missing"): (
        [Fifo(b"f")],
        [Op("open", (0, b"f", 0)), Op("unlink", (b"f",)), Op("hchmod", (0, 0o600))],
    ),
    ("tree.name char", "missing"): (
        [Dir(b"d")],
        [
            Op("mknod", (b"d/c", stat.S_IFCHR | 0o666, os.makedev(1, 3))),
            Op("generation", ()),
            Op("open", (0, b"d/c", 0)),
            Op("unlink", (b"d/c",)),
            Op("hchmod", (0, 0o600)),
        ],
    ),
    ("h*", "success"): ([File(b"d/f")], [*_removed, Op("hchmod", (0, 0o600))]),
    ("hstat.nlink", "0"): (
        [Fifo(b"d/f")],
        [Op("open", (0, b"d/f", 0)), Op("rmtree", (b"d",)), Op("hstat", (0,))],
    ),
    ("r[me]*", "success"): (
        [File(b"d/a")],
        [Op("rmtree", (b"d",))],
        [Whiteout(b"d/a", attribute=True)],
    ),
    ("tree", "readable"): (
        [Dir(b"d")],
        [
            Op("mkdir", (b"new", 0o755)),
            Op("open", (0, b"d", os.O_RDONLY)),
            Op("rename", (b"new", b"d")),
            Op("hutime", (0, 0)),
        ],
    ),
}
_LATE = [Op("chmod", (b"a", 0o600)), Op("open", (0, b"a", os.O_RDWR))]
METACOPY_CASES = {
    ("tree.mtime file", "[-0-9]*"): ([File(b"a")], [*_LATE, Op("compare", ())]),
    ("stat.mtime", "[-0-9]*"): ([File(b"a")], [*_LATE, Op("stat", (b"a",))]),
    ("hstat.mtime", "[-0-9]*"): ([File(b"a")], [*_LATE, Op("hstat", (0,))]),
    ("link", "success"): ([File(b"d/" + LONG)], [Op("link", (b"d/" + LONG, b"a"))]),
}
_number = itertools.count()


@pytest.mark.needs_fuse
@pytest.mark.needs_root
@pytest.mark.needs_kernel_overlay
@pytest.mark.parametrize("case", [*CASES, *METACOPY_CASES])
def test_the_difference_is_there(arena, mount_union, case):  # noqa: F811
    bottom, ops, *above = (CASES | METACOPY_CASES)[case]
    options = METACOPY_OPTIONS if case in METACOPY_CASES else KERNEL_OPTIONS
    stack = [bottom, *(above or [[Whiteout(b"b")]])]
    folder = arena + b"/row%d" % next(_number)
    used = run(folder, stack, ops, mount_union, parity.load(), options=options)
    assert case in {(row.call, row.plain) for row in used}


def test_every_row_has_its_case():
    assert {(row.call, row.plain) for row in parity.load()} == set(CASES | METACOPY_CASES)


def test_what_the_rule_allows():
    (row,) = parity.parse(["# comment", "", "link | success | EXDEV | plain | because"])
    assert parity.judge([], "link", 1, 1, 1).right
    assert not parity.judge([row], "link", 1, 1, 2).right
    assert parity.judge([row], "link", None, "EXDEV", None) == parity.Verdict(True, row)
    assert not parity.judge([row], "link", None, "EXDEV", "EXDEV").right
    assert not parity.judge([row], "link", None, "EXDEV", "EIO").right
    assert not parity.judge([row], "rename", None, "EXDEV", None).right
    assert not parity.judge([row], "link", None, "EPERM", None).right


@pytest.mark.parametrize(
    "line", ["link | success | EXDEV | plain |", "a | b | c | d", "a | b | c | ours | why"]
)
def test_a_row_without_a_reason_is_no_row(line):
    with pytest.raises(ValueError, match="line 1"):
        parity.parse([line])
