"""A full disk: the caller hears of it, and the tree is as before."""

from __future__ import annotations

import errno
import os

import pytest

from tests.support import kernel, trees
from tests.support.files import opened, read, refused, write
from tests.support.stacks import File, Layers, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

LOW = 3 << 20  # bytes of the lower file; the upper's disk holds 2 MiB


@pytest.fixture
def small(scratch):
    """A stack whose upper and work are on a filesystem of 2 MiB."""
    layers = build_stack(
        scratch + b"/s", [[File(b"big", b"low ", LOW), File(b"d/small", b"s", 100)]], writable=False
    )
    disk = scratch + b"/disk"
    os.mkdir(disk)
    kernel.mount(b"small", disk, b"tmpfs", 0, b"size=2m")
    os.mkdir(disk + b"/upper")
    os.mkdir(disk + b"/work")
    yield Layers(layers.lowers, disk + b"/upper", disk + b"/work")
    kernel.umount(disk)


@pytest.fixture
def mounted(small, scratch):
    from tests.support.mounts import HelperMount

    with HelperMount(small, scratch + b"/m") as mounted:
        yield mounted


def _fill(folder: bytes) -> None:
    with opened(folder + b"/filler", os.O_WRONLY | os.O_CREAT) as fd:
        try:
            while True:
                os.write(fd, bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY | os.O_APPEND])
def test_in_the_middle_of_a_copy_up(mounted, small, flags):
    big = mounted.root + b"/big"
    before = trees.snapshot(mounted.root)
    with refused(errno.ENOSPC), opened(big, flags) as fd:
        os.write(fd, b"x")
    with refused(errno.ENOSPC):
        os.truncate(big, LOW - 1)
    assert read(big) == b"low " * (LOW // 4)
    trees.assert_same(before, trees.snapshot(mounted.root), ("before", "after"))
    assert os.listdir(small.upper) == []
    assert os.statvfs(small.upper).f_bavail * 4096 > 1_500_000, "half a copy was left behind"


def test_room_is_used_when_there_is_some_again(mounted):
    _fill(mounted.root)
    small = mounted.root + b"/d/small"
    with refused(errno.ENOSPC):
        write(mounted.root + b"/more", bytes(100_000))
    assert read(small) == b"s" * 100
    os.unlink(mounted.root + b"/filler")
    write(small, b"new")
    assert read(small) == b"new"


def test_what_frees_space_works_on_a_full_disk(mounted):
    """Removing what is in the upper needs no room of its own."""
    write(mounted.root + b"/made", bytes(50_000))
    os.mkdir(mounted.root + b"/dir")
    _fill(mounted.root)
    os.unlink(mounted.root + b"/made")
    os.rmdir(mounted.root + b"/dir")
    os.unlink(mounted.root + b"/filler")
    assert sorted(os.listdir(mounted.root)) == [b"big", b"d"]


@pytest.mark.parametrize("options", [[], [b"record"]])  # which opens by a request
def test_truncating_needs_no_copy(small, union, options):
    """O_TRUNC and truncate(2) to a few bytes copy only those."""
    path = union(small, options=options).root + b"/big"
    write(path, b"now small")
    assert read(path) == b"now small"


def test_a_copy_up_is_whole_after_the_mount_ends(mounted, small, union):
    small_file = mounted.root + b"/d/small"
    with opened(small_file, os.O_RDWR) as fd:
        os.pwrite(fd, b"new", 0)
    mounted.unmount()
    assert read(union(small).root + b"/d/small") == b"new" + b"s" * 97
