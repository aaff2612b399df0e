"""Renames over many generations of layers, and at the length that a redirect can hold."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import pytest

from tests.support import overlay_run, parity
from tests.support.fixtures import COMPARED
from tests.support.ops import Op
from tests.support.stacks import Dir, File, Stack, Whiteout

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, *COMPARED]

_number = itertools.count()


def _run(arena: bytes, mount_union, stack: Stack, ops: Sequence[Op]) -> list[parity.Row]:
    folder = arena + b"/generations%d" % next(_number)
    return overlay_run.run(folder, stack, ops, mount_union, parity.load())


def _rename(old: bytes, new: bytes, flags: int = 0) -> Op:
    return Op("rename", (old, new, flags))


def test_renamed_in_each_of_twelve_generations(arena, mount_union):
    """Beside itself and elsewhere by turns, with changes inside: redirects that lead to others."""
    stack = [
        [File(b"d0/f"), File(b"d0/sub/g"), File(b"d0/sub/gone"), Dir(b"p")],
        [File(b"d0/mid"), Whiteout(b"d0/sub/gone")],
    ]
    ops: list[Op] = []
    place = b"d0"
    for number in range(1, 13):
        new = (b"p/d%d" if number % 3 else b"d%d") % number
        ops += [
            _rename(place, new),
            _rename(new + b"/sub", new + b"/sub%d" % number),
            _rename(new + b"/sub%d" % number, new + b"/sub"),
            Op("write", (new + b"/new%d" % number, os.O_CREAT, 0, number, 100)),
            Op("mkdir", (place, 0o755)),  # the old name again: it must hide what was there
            Op("write", (place + b"/f", os.O_CREAT, 0, number, 10)),
            Op("generation", ()),
            Op("compare", ()),
        ]
        place = new
    _run(arena, mount_union, stack, [*ops, Op("rmtree", (place + b"/sub",)), Op("remount", ())])


def test_a_parent_and_its_child_take_turns(arena, mount_union):
    """Absolute redirects go by the names of the layers below, however often those moved."""
    ops: list[Op] = []
    outer, inner = b"a", b"b"
    for number in range(6):
        ops += [
            _rename(outer + b"/" + inner, b"out%d" % number),
            _rename(outer, b"outer%d" % number),
            _rename(b"out%d" % number, b"outer%d/in%d" % (number, number)),
            Op("generation", ()),
        ]
        outer, inner = b"outer%d" % number, b"in%d" % number
    _run(arena, mount_union, [[File(b"a/b/c/f"), File(b"a/g")], [File(b"a/b/c/h")]], ops)


@pytest.mark.parametrize("length", range(253, 260))
def test_at_the_length_that_a_redirect_can_hold(arena, mount_union, length):
    """The kernel writes no longer one than 256 bytes and says EXDEV; we never do."""
    folder, name = b"l" * 200, b"m" * (length - 202)  # two slashes
    path = folder + b"/" + name
    assert len(b"/" + path) == length
    stack = [[File(path + b"/f"), File(path + b"/sub/g")], [File(path + b"/sub/h")]]
    moved = _rename(path, b"moved")
    used = _run(arena, mount_union, stack, [moved])
    asked = length > 256 and overlay_run.OPTIONS is not None
    assert any(row.kernel == "EXDEV" for row in used) == asked
    _run(
        arena,
        mount_union,
        stack,
        [moved, _rename(b"moved/sub", b"sub"), _rename(b"moved", path), Op("remount", ())],
    )
