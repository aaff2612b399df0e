"""Directories that many layers have are read from the disk side by side."""

from __future__ import annotations

import os
from array import array

import pytest

from tests.support import trees
from tests.support.disks import Disk
from tests.support.files import read
from tests.support.fixtures import disk, disks  # noqa: F401
from tests.support.stacks import Dir, File, build_stack
from unionfs.fuse import native

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

LAYERS = 150  # more than are looked ahead at at a time


def _stack(place: bytes, opaque: int | None = None):
    """Return layers which all have ``d`` and ``d/e``, in *opaque* with a mark of AUFS."""
    hides = [File(b"d/e/.wh..wh..opq", size=0)]
    bottom_up = [
        [Dir(b"d"), Dir(b"d/e"), File(b"d/e/f%d" % n, b"x", n + 1)] + (hides if n == opaque else [])
        for n in range(LAYERS)
    ]
    return build_stack(place, bottom_up)


@pytest.mark.needs_loop
@pytest.mark.needs_extension
def test_what_is_not_in_memory_is_read_and_once(disk: Disk):  # noqa: F811
    parents = [disk.root + b"/%d" % number for number in range(20)]
    for path in parents:
        os.makedirs(path + b"/d")
    os.symlink(b"/", parents[0] + b"/link")
    disk.forget()
    fds = array("i", [os.open(path, os.O_RDONLY) for path in parents])
    try:
        assert native.hooks is not None
        assert native.hooks.warm_up(b"d", fds[:]) == 20
        assert native.hooks.warm_up(b"d", fds[:]) == 0
        assert native.hooks.warm_up(b"link", fds[:]) in range(21)  # nothing is followed
        assert native.hooks.warm_up(b"no", array("i", [-1, *fds])) in range(21)
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.needs_loop
@pytest.mark.parametrize("opaque", [None, 0, 30, LAYERS - 1])
def test_everything_is_found(disk: Disk, union, opaque):  # noqa: F811
    layers = _stack(disk.root + b"/s", opaque)
    disk.forget()
    root = union(layers).root
    shown = range(opaque or 0, LAYERS)
    assert sorted(os.listdir(root + b"/d/e")) == sorted(b"f%d" % n for n in shown)
    assert all(read(root + b"/d/e/f%d" % n) == b"x" * (n + 1) for n in shown)


@pytest.mark.needs_loop
def test_access_times_of_layers_stay(disk: Disk, union):  # noqa: F811
    """Though the disk would change them for who lists a directory."""
    layers = _stack(disk.root + b"/s")
    for lower in layers.lowers:
        os.utime(lower + b"/d", ns=(1, 2))
    disk.forget()
    before = [os.stat(lower + b"/d").st_atime_ns for lower in layers.lowers]
    trees.snapshot(union(layers).root)
    assert [os.stat(lower + b"/d").st_atime_ns for lower in layers.lowers] == before
