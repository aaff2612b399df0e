"""Hard links: one file through copy-up and remount, however the upper came to be."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.support import kernel
from tests.support.examples import FULL
from tests.support.files import ino, opened, read, write
from tests.support.mounts import KernelOverlay
from tests.support.stacks import Dir, File, Layers, Link, build_stack

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


MS_REMOUNT = 32
COUNT = 50_000 if FULL else 400  # files of two names; the daemon may have 256 descriptors


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


def test_all_but_one_name_unlinked_in_any_order(scratch, union):
    """The name that the file is known by goes first, or last, or is moved about in between."""

    def change(root):
        os.mkdir(root + b"/x")

    root = _many(scratch, union, change)
    for n in range(60):
        names = [root + b"/x/%d-%d" % (n, which) for which in range(5)]
        write(names[0], b"%d" % n)
        for name in names[1:]:
            os.link(names[0], name)
        os.rename(names[n % 5], names[n % 5] + b"-moved")
        names[n % 5] += b"-moved"
        keep = names.pop(n % 3)
        for left, name in zip((4, 3, 2, 1), names if n % 2 else names[::-1], strict=True):
            os.unlink(name)
            assert os.lstat(keep).st_nlink == left
        assert read(keep) == b"%d" % n
        os.link(keep, keep + b"-again")
        os.rename(keep + b"-again", root + b"/x/over%d" % (n % 7))
        assert ino(root + b"/x/over%d" % (n % 7)) == ino(keep)
    assert os.lstat(root + b"/x/over1").st_nlink == 2


def test_a_name_is_replaced_before_the_other_is_known(scratch, union):
    """What goes by a rename over it is kept for the names that nobody has looked up yet."""

    def change(root):
        os.mkdir(root + b"/x")
        os.mkdir(root + b"/y")
        for n in range(20):
            write(root + b"/x/%d" % n, b"%d" % n)
            os.link(root + b"/x/%d" % n, root + b"/y/%d" % n)

    root = _many(scratch, union, change)
    for n in range(20):
        write(root + b"/x/new", b"new")
        with opened(root + b"/x/%d" % n, os.O_RDWR) as fd:
            os.rename(root + b"/x/new", root + b"/x/%d" % n)
            os.pwrite(fd, b"X", 0)
            os.link(b"/proc/self/fd/%d" % fd, root + b"/x/back%d" % n, src_dir_fd=fd)
            facts = [os.fstat(fd), os.lstat(root + b"/x/back%d" % n), os.lstat(root + b"/y/%d" % n)]
            assert {(st.st_ino, st.st_nlink) for st in facts} == {(facts[0].st_ino, 2)}
        assert read(root + b"/y/%d" % n)[:1] == read(root + b"/x/back%d" % n)[:1] == b"X"
        assert os.lstat(root + b"/x/%d" % n).st_nlink == 1


def test_nothing_is_left_in_work(scratch, union):
    """A daemon that is killed leaves names there that keep files; the next mount counts right."""
    layers = build_stack(scratch + b"/s", [[Dir(b"x")]])
    first = union(layers)
    write(first.root + b"/x/a", b"a")
    os.link(first.root + b"/x/a", first.root + b"/x/b")
    first.unmount()
    second = union(layers)
    with opened(second.root + b"/x/a", os.O_RDONLY) as fd:
        os.unlink(second.root + b"/x/a")
        assert os.fstat(fd).st_nlink == 1
    second.expect_errors = True
    second.kill()
    second.unmount = lambda: None
    third = union(layers)
    assert os.listdir(third.root + b"/x") == [b"b"]
    assert os.lstat(third.root + b"/x/b").st_nlink == 1
    third.unmount()
    assert os.listdir(layers.work + b"/work") == []
    assert os.lstat(layers.upper + b"/x/b").st_nlink == 1


def _resident_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1])


@pytest.mark.parametrize("names", [100_000 if FULL else 4_000])
def test_a_walk_of_many_links_is_forgotten(scratch, union, names):
    """Lower directories full of hard links can be let go; walks again and again cost no memory."""
    lower = scratch + b"/lower"
    for folder in range(names // 100):
        os.makedirs(lower + b"/%d" % folder)
        for n in range(50):
            path = lower + b"/%d/%d" % (folder, n)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            os.link(
                path, lower + b"/%d/%d" % ((folder * 7 + n) % (folder + 1), 1000 + n + folder * 50)
            )
    upper, work = scratch + b"/upper", scratch + b"/work"
    os.mkdir(upper)
    os.mkdir(work)
    mounted = union(Layers((lower,), upper, work), descriptors=256)
    sizes = []
    for _ in range(4):
        for folder, _dirs, files in os.walk(mounted.root):
            assert {os.lstat(os.path.join(folder, name)).st_nlink for name in files} <= {2}
        kernel.mount(b"none", mounted.root, b"fuse", MS_REMOUNT)  # the kernel lets all go
        sizes.append(_resident_kib(mounted.pid))
    assert sizes[-1] < sizes[1] + 10 * 1024, sizes
