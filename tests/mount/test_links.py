"""Hard links and removed files that are still open: one file, whatever its names."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

from tests.support import trees
from tests.support.files import ino, opened, read, refused, write
from tests.support.mounts import HelperMount
from tests.support.stacks import MARKS, File, Link, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


@pytest.fixture
def layers(scratch):
    """A lower file with three names in two directories."""
    return build_stack(
        scratch + b"/s",
        [[File(b"x/a", b"old ", 8000), Link(b"x/b", b"x/a"), Link(b"y/c", b"x/a"), File(b"one")]],
    )


NAMES = (b"/x/a", b"/x/b", b"/y/c")


def _facts(root: bytes) -> list[tuple[int, int, bytes]]:
    return [(ino(root + n), os.lstat(root + n).st_nlink, read(root + n)) for n in NAMES]


def test_nlink_and_ino_before_other_names_were_looked_up(union, layers):
    root = union(layers).root
    st = os.lstat(root + b"/y/c")
    assert st.st_nlink == 3
    assert ino(root + b"/x/a") == st.st_ino
    assert os.lstat(root + b"/x/b").st_nlink == 3


def test_one_copy_up_for_all_names(union, layers):
    root = union(layers).root
    number = ino(root + b"/x/a")
    with opened(root + b"/x/b", os.O_RDWR) as fd:
        os.pwrite(fd, b"NEW ", 0)
    facts = _facts(root)
    assert len(set(facts)) == 1
    assert facts[0] == (number, 3, b"NEW " + (b"old " * 2000)[4:])


def test_names_not_looked_up_before_the_copy_up(union, layers):
    root = union(layers).root
    write(root + b"/x/a", b"new")
    assert {fact[1:] for fact in _facts(root)} == {(3, b"new")}
    assert len({fact[0] for fact in _facts(root)}) == 1


def test_still_links_after_a_remount(union, layers):
    first = union(layers)
    number = ino(first.root + b"/x/a")
    write(first.root + b"/x/a", b"new")
    os.link(first.root + b"/x/b", first.root + b"/y/d")
    first.unmount()
    root = union(layers).root
    assert set(_facts(root)) == {(number, 4, b"new")}
    assert ino(root + b"/y/d") == number
    with opened(root + b"/y/c", os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"er")
    assert read(root + b"/x/b") == read(root + b"/y/d") == b"newer"


def test_nlink_falls_with_each_name(union, layers):
    root = union(layers).root
    with opened(root + b"/x/a", os.O_RDONLY) as fd:
        for left, name in ((2, b"/x/b"), (1, b"/x/a"), (0, b"/y/c")):
            os.unlink(root + name)
            assert os.fstat(fd).st_nlink == left
        assert os.pread(fd, 4, 0) == b"old "


def test_renaming_one_name_over_another_of_the_same_file_does_nothing(union, layers):
    root = union(layers).root
    os.rename(root + b"/x/a", root + b"/x/b")
    assert len(set(_facts(root))) == 1
    assert os.lstat(root + b"/x/a").st_nlink == 3


def test_a_single_lower_file_gets_a_second_name(union, layers):
    root = union(layers).root
    number = ino(root + b"/one")
    os.link(root + b"/one", root + b"/two")
    assert ino(root + b"/two") == ino(root + b"/one") == number
    assert os.lstat(root + b"/one").st_nlink == 2
    write(root + b"/two", b"both")
    assert read(root + b"/one") == b"both"


@pytest.mark.needs_kernel_overlay
def test_the_kernel_sees_the_same_links(union, overlay, layers):
    """Through ``work/index``: the other names are in no upper directory."""
    mounted = union(layers)
    write(mounted.root + b"/x/a", b"new")
    os.unlink(mounted.root + b"/x/b")
    ours = trees.snapshot(mounted.root)
    mounted.unmount()
    trees.assert_same(ours, trees.snapshot(overlay(layers).root), ("union", "kernel"))


@pytest.mark.needs_kernel_overlay
def test_links_that_the_kernel_copied_up(union, overlay, layers):
    with overlay(layers) as there:
        write(there.root + b"/y/c", b"by the kernel")
        os.link(there.root + b"/x/b", there.root + b"/d")
        theirs = trees.snapshot(there.root)
    overlay_done = trees.snapshot(union(layers).root)
    trees.assert_same(theirs, overlay_done, ("kernel", "union"))


def test_tar_sees_no_change_after_a_remount(scratch, union, layers):
    """``tar --listed-incremental`` compares inode numbers, device and times."""
    snar = scratch + b"/snar"

    def changed(root: bytes) -> bytes:
        words = ["tar", "--listed-incremental", snar, "--no-check-device", "-vcf", "/dev/null", "."]
        done = subprocess.run(words, cwd=root, check=True, capture_output=True)
        return b"\n".join(x for x in done.stdout.splitlines() if not x.endswith(b"/"))

    first = union(layers)
    write(first.root + b"/x/a", b"new")
    assert b"x/a" in changed(first.root)
    first.unmount()
    assert changed(union(layers).root) == b""


@pytest.mark.parametrize("name", [b"/one", b"/x/a", b"/made"])
def test_removed_while_open(union, layers, name):
    """Read, write, stat, chmod and truncate go on through the descriptor, and nothing else."""
    root = union(layers).root
    if name == b"/made":
        write(root + name, b"old " * 20)
    before = os.lstat(root + name).st_nlink
    with opened(root + name, os.O_RDWR) as fd:
        os.unlink(root + name)
        assert os.fstat(fd).st_nlink == before - 1
        os.pwrite(fd, b"ghost", 0)
        assert os.pread(fd, 5, 0) == b"ghost"
        os.ftruncate(fd, 3)
        os.fchmod(fd, 0o600)
        os.fsync(fd)
        st = os.fstat(fd)
        assert (st.st_size, st.st_mode & 0o777) == (3, 0o600)
        write(root + name, b"another file")
        assert os.pread(fd, 10, 0) == b"gho"
        assert ino(root + name) != st.st_ino
    assert read(root + name) == b"another file"


def test_removed_lower_file_open_for_reading_only(union, layers):
    """Attributes can be changed through it too, though its copy has no name to be made at."""
    root = union(layers).root
    with opened(root + b"/one", os.O_RDONLY) as fd:
        os.unlink(root + b"/one")
        os.fchmod(fd, 0o600)
        os.fchown(fd, 12, 34)
        os.utime(fd, ns=(5, 7))
        os.setxattr(fd, "user.x", b"1")
        st = os.fstat(fd)
        assert (st.st_mode & 0o777, st.st_uid, st.st_mtime_ns, st.st_nlink) == (0o600, 12, 7, 0)
        assert os.getxattr(fd, "user.x") == b"1"
        assert os.read(fd, 100) == b"x" * 10
    assert b"one" not in os.listdir(root)


def test_replaced_by_rename_while_open(union, layers):
    """What editors and package managers do: write aside, rename over."""
    root = union(layers).root
    write(root + b"/new", b"new")
    with opened(root + b"/one", os.O_RDONLY) as fd:
        os.rename(root + b"/new", root + b"/one")
        assert os.read(fd, 100) == b"x" * 10
        assert os.fstat(fd).st_nlink == 0
    assert read(root + b"/one") == b"new"


def test_few_descriptors_are_enough_for_many_links(scratch, union):
    """link(2) and unlink(2), as git does with every object: none costs a descriptor."""
    root = union(build_stack(scratch + b"/s", [[]]), descriptors=256).root
    for number in range(400):
        write(root + b"/tmp", b"%d" % number)
        os.link(root + b"/tmp", root + b"/object%d" % number)
        if number % 2:
            os.rename(root + b"/object%d" % number, root + b"/odd%d" % number)
        os.unlink(root + b"/tmp")
    assert read(root + b"/odd7") == b"7"


def test_the_last_name_is_first_looked_up_when_the_other_is_removed(union, layers):
    """``b`` is the file that is open as ``a``, though nobody saw ``b`` before ``a`` was gone."""
    first = union(layers)
    os.link(first.root + b"/one", first.root + b"/two")
    first.unmount()
    root = union(layers).root
    with opened(root + b"/one", os.O_RDWR) as fd:
        os.unlink(root + b"/one")
        assert ino(root + b"/two") == os.fstat(fd).st_ino
        assert os.fstat(fd).st_nlink == os.lstat(root + b"/two").st_nlink == 1
        os.pwrite(fd, b"seen", 0)
        assert read(root + b"/two")[:4] == b"seen"
        os.chmod(root + b"/two", 0o600)
        assert os.fstat(fd).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("count", [b"L-2", b"U-1"])
def test_a_count_that_is_too_small_takes_no_name_along(union, layers, count):
    """The mark of the count is damaged: one name, it says, and three are there."""
    mounted = union(layers)
    os.chmod(mounted.root + b"/x/a", 0o600)
    mounted.unmount()
    (entry,) = os.listdir(layers.work + b"/index")
    os.setxattr(layers.work + b"/index/" + entry, f"{MARKS}.overlay.nlink", count)
    mounted = union(layers)
    assert len({ino(mounted.root + name) for name in NAMES}) == 1
    os.unlink(mounted.root + b"/x/a")
    for _ in range(2):
        for name in NAMES[1:]:
            assert len(read(mounted.root + name)) == 8000
        os.link(mounted.root + b"/x/b", mounted.root + b"/new")
        os.unlink(mounted.root + b"/new")
        mounted.unmount()
        mounted = union(layers)
    assert ino(mounted.root + b"/x/b") == ino(mounted.root + b"/y/c")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink(b"one", path)])
def test_what_is_no_copy_is_not_taken_for_one(scratch, layers, union, make):
    """The index is damaged: neither is shown in the copy's place, nor the lower's old content."""
    mounted = union(layers)
    os.chmod(mounted.root + b"/x/a", 0o600)
    mounted.unmount()
    (entry,) = os.listdir(layers.work + b"/index")
    os.unlink(layers.work + b"/index/" + entry)
    make(layers.work + b"/index/" + entry)
    mounted = HelperMount(layers, scratch + b"/m")
    mounted.expect_errors = True
    with mounted:
        for call in (os.lstat, read, os.unlink, lambda path: os.chmod(path, 0o600)):
            with refused(errno.EIO):
                call(mounted.root + b"/y/c")
        assert read(mounted.root + b"/one") == b"x" * 10
