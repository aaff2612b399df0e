"""What was synced is there after a loss of power: the upper on a disk, and a copy of the disk.

Each case does something to a file and syncs it in one of the ways there are. The image of the disk
as it is at the moment of return, mounted anew under a new union, must show all of it.
"""

from __future__ import annotations

import ctypes
import mmap
import os

import pytest

from tests.support import kernel
from tests.support.examples import FULL
from tests.support.files import opened, read
from tests.support.fixtures import disk, disks, left  # noqa: F401
from tests.support.stacks import File, Layers, Link, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_loop]

SIZE = 150_000
OLD = (b"old " * SIZE)[:SIZE]
OFFSETS = [0, 70_000, SIZE - 3, SIZE + 10_000] if FULL else [70_000, SIZE + 10_000]
SIZES = [0, 10, 4096, SIZE + 10_000] if FULL else [0, 4097]


@pytest.fixture
def layers(disk):  # noqa: F811
    """Layers, upper and work, all on the disk and safe there."""
    lower = [File(b"d/f", b"old ", SIZE), File(b"d/a", b"old ", SIZE), Link(b"d/b", b"d/a")]
    made = build_stack(disk.root + b"/s", [[*lower, File(b"e/meta", b"old ", SIZE)], [File(b"x")]])
    _leave_metacopy(made, disk.root + b"/k")
    disk.sync()
    return made


def _leave_metacopy(layers: Layers, target: bytes) -> None:
    """Let the kernel copy ``e/meta`` up without its data."""
    os.mkdir(target)
    options = layers.options() + b",metacopy=on,redirect_dir=on,index=on,xino=on"
    kernel.mount(b"overlay", target, b"overlay", 0, options)
    os.chmod(target + b"/e/meta", 0o640)
    kernel.umount(target)


@pytest.fixture
def after(layers, left, union):  # noqa: F811
    """Return the root of a union on what the disk has now."""
    return lambda: union(left(layers)).root


@pytest.fixture
def mounted(layers, union):
    return union(layers)


SYNCS = {"fsync": os.fsync, "fdatasync": os.fdatasync}


@pytest.mark.parametrize("sync", SYNCS)
@pytest.mark.parametrize("name", [b"d/f", b"d/a", b"d/b", b"e/meta"])
@pytest.mark.parametrize("offset", OFFSETS)
def test_written_in_place(mounted, after, sync, name, offset):
    """The first write copies the file up; what the layer has at its name must not come back."""
    with opened(mounted.root + b"/" + name, os.O_RDWR) as fd:
        os.pwrite(fd, b"fresh", offset)
        SYNCS[sync](fd)
        expected = bytearray(OLD.ljust(offset, b"\0"))
        expected[offset : offset + 5] = b"fresh"
        assert read(after() + b"/" + name) == expected


@pytest.mark.parametrize("sync", SYNCS)
def test_both_names_of_a_file(mounted, after, sync):
    with opened(mounted.root + b"/d/a", os.O_RDWR) as fd:
        os.pwrite(fd, b"fresh", 9)
        SYNCS[sync](fd)
        assert read(after() + b"/d/b")[9:14] == b"fresh"


@pytest.mark.parametrize("sync", SYNCS)
def test_written_again_after_other_changes(mounted, after, sync):
    """Copied up by chmod long before, then written; then written once more."""
    path = mounted.root + b"/d/f"
    os.chmod(path, 0o600)
    with opened(path, os.O_RDWR) as fd:
        os.pwrite(fd, b"fresh", 0)
        SYNCS[sync](fd)
        os.pwrite(fd, b"again", 5)
        SYNCS[sync](fd)
        assert read(after() + b"/d/f")[:14] == b"freshagain" + OLD[10:14]


@pytest.mark.parametrize("sync", SYNCS)
@pytest.mark.parametrize("size", SIZES)
def test_truncated(mounted, after, sync, size):
    with opened(mounted.root + b"/d/f", os.O_RDWR) as fd:
        os.ftruncate(fd, size)
        SYNCS[sync](fd)
        assert read(after() + b"/d/f") == OLD[:size].ljust(size, b"\0")


@pytest.mark.parametrize("sync", SYNCS)
def test_overwritten_with_o_trunc(mounted, after, sync):
    with opened(mounted.root + b"/d/f", os.O_WRONLY | os.O_TRUNC) as fd:
        os.write(fd, b"new")
        SYNCS[sync](fd)
        assert read(after() + b"/d/f") == b"new"


@pytest.mark.parametrize("sync", SYNCS)
def test_appended(mounted, after, sync):
    with opened(mounted.root + b"/d/f", os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"end")
        SYNCS[sync](fd)
        assert read(after() + b"/d/f") == OLD + b"end"


@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC])
def test_opened_to_write_synced(mounted, after, flag):
    """O_SYNC and O_DSYNC: each write is on the disk when it returns."""
    with opened(mounted.root + b"/d/f", os.O_RDWR | flag) as fd:
        os.pwrite(fd, b"fresh", 5000)
        assert read(after() + b"/d/f")[5000:5005] == b"fresh"


def test_written_through_a_mapping(mounted, after):
    with (
        opened(mounted.root + b"/d/f", os.O_RDWR) as fd,
        mmap.mmap(fd, SIZE) as mapping,
    ):
        mapping[100:105] = b"fresh"
        mapping[140_000:140_005] = b"fresh"
        mapping.flush()
        seen = read(after() + b"/d/f")
        assert seen[100:105] == seen[140_000:140_005] == b"fresh"
        assert len(seen) == SIZE


def test_made(mounted, after):
    """A new file, by its own sync alone, as on ext4; with the directory that was made for it."""
    os.mkdir(mounted.root + b"/d/new")
    with opened(mounted.root + b"/d/new/f", os.O_WRONLY | os.O_CREAT) as fd:
        os.write(fd, b"made")
        os.fsync(fd)
        assert read(after() + b"/d/new/f") == b"made"


def test_replaced_by_a_rename(mounted, after):
    """What every careful program does: write, sync, rename, sync the directory."""
    folder = mounted.root + b"/d"
    with opened(folder + b"/tmp", os.O_WRONLY | os.O_CREAT) as fd:
        os.write(fd, b"made")
        os.fsync(fd)
    os.rename(folder + b"/tmp", folder + b"/f")
    os.unlink(folder + b"/a")
    with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.fsync(fd)
        there = after() + b"/d"
        assert sorted(os.listdir(there)) == [b"b", b"f"]
        assert read(there + b"/f") == b"made"
        assert read(there + b"/b") == OLD


def test_what_a_copy_up_alone_leaves(mounted, after):
    """Nothing was synced: the old or the new file, and never a short or an empty one."""
    with opened(mounted.root + b"/d/f", os.O_RDWR) as fd:
        os.pwrite(fd, b"fresh", 0)
        assert read(after() + b"/d/f")[5:] == OLD[5:]


def test_a_sync_of_the_whole_filesystem_syncs_nothing(mounted, after):
    """The kernel tells no daemon of syncfs(2) (fs/fuse/inode.c, fuse_sync_fs()): README, Limits."""
    with opened(mounted.root + b"/d/new", os.O_WRONLY | os.O_CREAT) as fd:
        os.write(fd, b"made")
        assert ctypes.CDLL(None).syncfs(fd) == 0
        assert not os.path.exists(after() + b"/d/new")
