"""Hard links: one file through copy-up and remount, however the upper came to be."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.support.files import ino, opened, read, write
from tests.support.mounts import KernelOverlay
from tests.support.stacks import File, Link, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


@pytest.mark.needs_kernel_overlay
@pytest.mark.parametrize("first", [b"/a", b"/b"])
def test_links_that_were_broken_without_an_index_are_two_files(scratch, union, first):
    """Most distributions' overlayfs has no index: it copies one name up, and the link is broken."""
    layers = build_stack(scratch + b"/s", [[File(b"a", b"old"), Link(b"b", b"a")]])
    with KernelOverlay(layers, scratch + b"/k", options=b"index=off") as there:
        write(there.root + b"/a", b"new")
        assert read(there.root + b"/b")[:3] == b"old"
    root = union(layers).root
    os.lstat(root + first)
    assert (read(root + b"/a"), read(root + b"/b")[:3]) == (b"new", b"old")
    assert ino(root + b"/a") != ino(root + b"/b")
    write(root + b"/b", b"newer")
    assert (read(root + b"/a"), read(root + b"/b")) == (b"new", b"newer")


@pytest.mark.parametrize("first", [b"/a", b"/b"])
def test_links_whose_index_was_thrown_away_are_two_files(scratch, union, first):
    """Who empties the work directory breaks the link; no name may show another file for that."""
    layers = build_stack(scratch + b"/s", [[File(b"a", b"old"), Link(b"b", b"a")]])
    before = union(layers)
    write(before.root + b"/a", b"new")
    before.unmount()
    shutil.rmtree(layers.work)
    os.mkdir(layers.work)
    root = union(layers).root
    os.lstat(root + first)
    assert (read(root + b"/a"), read(root + b"/b")[:3]) == (b"new", b"old")
    assert ino(root + b"/a") != ino(root + b"/b")


COUNT = 400  # files with two names or three, with room for 256 descriptors


def _many(scratch, union, change):
    """Mount *COUNT* lower files of two names, let *change* do something, and mount again."""
    entries = []
    for n in range(COUNT):
        entries += [File(b"a/%d" % n, b"%d," % n), Link(b"b/%d" % n, b"a/%d" % n)]
    layers = build_stack(scratch + b"/s", [entries])
    first = union(layers, descriptors=256)
    change(first.root)
    first.unmount()
    return union(layers, descriptors=256).root


def test_lower_names_of_copied_files(scratch, union):
    """They are looked up after a remount before the names that were copied up."""

    def change(root):
        for n in range(COUNT):
            os.chmod(root + b"/a/%d" % n, 0o600)

    root = _many(scratch, union, change)
    for n in range(COUNT):
        st = os.lstat(root + b"/b/%d" % n)
        assert (st.st_mode & 0o777, st.st_nlink) == (0o600, 2)
    for n in range(COUNT):
        os.unlink(root + b"/b/%d" % n)
    assert os.lstat(root + b"/a/7").st_nlink == 1


def test_upper_names_unlinked_before_the_others_are_known(scratch, union):
    def change(root):
        os.mkdir(root + b"/x")
        os.mkdir(root + b"/y")
        for n in range(COUNT):
            write(root + b"/x/%d" % n, b"%d" % n)
            os.link(root + b"/x/%d" % n, root + b"/y/%d" % n)

    root = _many(scratch, union, change)
    with opened(root + b"/x/5", os.O_RDONLY) as fd:
        for n in range(COUNT):
            os.unlink(root + b"/x/%d" % n)
        assert os.fstat(fd).st_nlink == 1
        assert os.fstat(fd).st_ino == ino(root + b"/y/5")
        assert os.lstat(root + b"/y/5").st_nlink == 1
    assert all(read(root + b"/y/%d" % n) == b"%d" % n for n in range(COUNT))
