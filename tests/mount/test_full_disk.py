"""A full disk: the caller hears of it, and the tree is as before."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.support import kernel, trees
from tests.support.files import opened, read, refused, write
from tests.support.mounts import HelperMount
from tests.support.stacks import Dir, File, Layers, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

LOW = 3 << 20  # bytes of the lower file; the upper's disk holds 2 MiB


@contextmanager
def _upper_on_disk(scratch: bytes, lowers: Sequence[bytes], limit: bytes) -> Iterator[Layers]:
    """Give *lowers* an upper and work on a filesystem of their own, with *limit* (tmpfs(5))."""
    disk = scratch + b"/disk"
    os.mkdir(disk)
    kernel.mount(b"small", disk, b"tmpfs", 0, limit)
    os.mkdir(disk + b"/upper")
    os.mkdir(disk + b"/work")
    yield Layers(lowers, disk + b"/upper", disk + b"/work")
    kernel.umount(disk)


@pytest.fixture
def small(scratch):
    """A stack whose upper and work are on a filesystem of 2 MiB."""
    layers = build_stack(
        scratch + b"/s", [[File(b"big", b"low ", LOW), File(b"d/small", b"s", 100)]], writable=False
    )
    with _upper_on_disk(scratch, layers.lowers, b"size=2m") as layers:
        yield layers


@pytest.fixture
def mounted(small, scratch):
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


# What takes an inode, be it a new file's, a copy's or a link's: tmpfs counts those.
_TAKERS: dict[str, Callable[[bytes, int], object]] = {
    "create": lambda root, at: os.open(root + b"/new%d" % at, os.O_CREAT | os.O_RDWR),
    "nameless": lambda root, at: os.open(root, os.O_TMPFILE | os.O_RDWR),
    "unlink": lambda root, at: os.unlink(root + b"/low%d" % at),
    "rmdir": lambda root, at: os.rmdir(root + b"/empty%d" % at),
}
_ROUNDS = 24  # in some of which the kernel lets the later request pass (forget_batch)


@pytest.fixture
def few(scratch):
    """A stack whose upper and work are on a filesystem of few inodes."""
    low = [File(b"low%d" % at) for at in range(_ROUNDS + 1)]
    empty = [Dir(b"empty%d" % at) for at in range(_ROUNDS)]
    deep = File(b"n/1/2/3/4/file")
    lowers = build_stack(scratch + b"/s", [[*low, *empty, deep]], writable=False).lowers
    with _upper_on_disk(scratch, lowers, b"nr_inodes=%d" % (_ROUNDS + 20)) as layers:
        yield layers


@pytest.mark.parametrize("room", [2, 3, 4])  # inodes; attributes take some, too
def test_directories_that_were_copied_are_told_of(few, scratch, room):
    """Before one failed, and with it the change that they were for."""
    spare = [os.path.dirname(few.upper) + b"/spare%d" % number for number in range(room)]
    for path in spare:
        write(path, b"")
    with HelperMount(few, scratch + b"/m") as mounted:
        root = mounted.root
        paths = [b"/n", b"/n/1", b"/n/1/2", b"/n/1/2/3", b"/n/1/2/3/4"]
        for path in paths:
            assert os.listdir(root + path)
        with refused(errno.ENOSPC):
            for number in range(2 * _ROUNDS):
                write(root + b"/%d" % number, b"")
        for path in spare:
            os.unlink(path)
        shown = [os.lstat(root + path) for path in paths]
        with refused(errno.ENOSPC):
            os.chmod(root + b"/n/1/2/3/4/file", 0o600)
        copied = [path for path in paths if os.path.exists(few.upper + path)]
        assert 0 < len(copied) < len(paths)
        for path, before in zip(paths, shown, strict=True):
            own = few.upper if path in copied else few.lowers[0]
            now = os.lstat(root + path)
            assert now.st_ctime_ns == os.lstat(own + path).st_ctime_ns
            assert now.st_nlink == (1 if path in copied else before.st_nlink)


def _is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize(
    "taker",
    [
        pytest.param(taker, marks=[pytest.mark.needs_extension] if taker == "nameless" else [])
        for taker in _TAKERS
    ],
)
def test_what_was_let_go_before_gives_room(few, scratch, taker):
    """The kernel's word of that (FORGET) waits in its queue, and a later request may pass it."""
    with HelperMount(few, scratch + b"/m") as mounted:
        root = mounted.root
        os.unlink(root + b"/low%d" % _ROUNDS)  # makes the whiteout that others are links of
        with refused(errno.ENOSPC):
            for number in range(2 * _ROUNDS):
                write(root + b"/%d" % number, b"")
        opened: list[int] = []
        try:
            for at in range(_ROUNDS):
                _let_go_and_take(mounted, at, lambda at=at: _TAKERS[taker](root, at), opened)
        finally:
            for fd in opened:
                os.close(fd)


def _let_go_and_take(mounted, at: int, take: Callable[[], object], opened: list[int]) -> None:
    """Let a file go, and *take* its room while the daemon has heard nothing of it."""
    root = mounted.root
    held = os.open(root + b"/%d" % at, os.O_PATH)
    os.unlink(root + b"/%d" % at)
    for name in (b"", b"/new%d" % at, b"/low%d" % at, b"/empty%d" % at):
        os.path.lexists(root + name)  # so that *take* is one request
    failed: list[OSError] = []

    def ask() -> None:
        try:
            fd = take()
            opened.extend([fd] if isinstance(fd, int) else [])
        except OSError as error:
            failed.append(error)

    asking = threading.Thread(target=ask)
    os.kill(mounted.pid, signal.SIGSTOP)
    try:
        while not _is_stopped(mounted.pid):
            time.sleep(0.001)
        os.close(held)
        asking.start()
        asking.join(0.02)
        assert asking.is_alive(), "it was answered without the daemon"
    finally:
        os.kill(mounted.pid, signal.SIGCONT)
    asking.join()
    assert not failed
