"""The daemon killed with SIGKILL: what DESIGN.md 2.3 promises is there after the next mount."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time

import pytest

from tests.support import trees
from tests.support.files import opened, read, refused, write
from tests.support.stacks import File, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

BIG = 60_000_000


@pytest.fixture
def layers(scratch):
    return build_stack(
        scratch + b"/s",
        [
            [File(b"d/low%d" % n, b"low ", 1000) for n in range(40)]
            + [File(b"big", b"big ", BIG), File(b"tree/a/b/c"), File(b"gone")]
        ],
    )


def _kill(mounted) -> None:
    mounted.expect_errors = True
    mounted.kill(signal.SIGKILL)
    mounted.unmount = lambda: None


def test_every_change_of_names_that_returned(union, layers):
    first = union(layers)
    root = first.root
    os.unlink(root + b"/gone")
    os.rename(root + b"/tree", root + b"/moved")
    os.mkdir(root + b"/tree")
    os.link(root + b"/d/low0", root + b"/linked")
    write(root + b"/d/low1", b"written")
    os.chmod(root + b"/d/low2", 0o600)
    before = trees.snapshot(root)
    _kill(first)
    trees.assert_same(before, trees.snapshot(union(layers).root), ("before", "after"))


def test_data_after_each_write_that_returned(union, layers):
    """Without a writeback cache a write that returned is in the upper's filesystem."""
    first = union(layers)
    fd = os.open(first.root + b"/d/low3", os.O_RDWR | os.O_CLOEXEC)
    os.pwrite(fd, b"WRITTEN", 100)
    _kill(first)
    with refused(errno.ENOTCONN):  # close(2) asks the daemon, which is dead
        os.close(fd)
    assert read(union(layers).root + b"/d/low3")[96:110] == b"low WRITTEN lo"


def test_in_the_middle_of_a_large_copy_up(union, layers):
    """Old content, whole, and no temporary name."""
    first = union(layers)
    thread = threading.Thread(target=_touch, args=(first.root + b"/big",))
    thread.start()
    time.sleep(0.02)
    _kill(first)
    thread.join(30)
    second = union(layers)
    assert os.lstat(second.root + b"/big").st_size == BIG
    assert read(second.root + b"/big")[-8:] == b"big big "
    assert sorted(os.listdir(second.root)) == [b"big", b"d", b"gone", b"tree"]
    assert set(os.listdir(layers.upper)) <= {b"big", b"d"}
    write(second.root + b"/big", b"small")
    second.unmount()
    left = os.listdir(layers.work + b"/work")
    assert left == [], "a temporary file of the dead daemon is still there"


def _touch(path: bytes) -> None:
    try:
        with opened(path, os.O_RDWR) as fd:
            os.pwrite(fd, b"x", 0)
    except OSError:
        pass  # the daemon is dead


@pytest.mark.parametrize("delay", [0.01, 0.05, 0.1, 0.2])
def test_during_a_workload(union, layers, delay):
    """Each acknowledged step is there; the one under way is done or not; nothing else is seen."""
    first = union(layers)
    done: list[str] = []
    thread = threading.Thread(target=_work, args=(first.root, done))
    thread.start()
    time.sleep(delay)
    _kill(first)
    thread.join(30)
    root = union(layers).root
    expected = _model(done)
    under_way = _model([*done, _steps(len(done))])
    names = set(os.listdir(root + b"/d"))
    assert names in (expected, under_way), f"after {len(done)} steps"


def _steps(count: int) -> str:
    return ("create", "rename", "unlink", "unlink-low")[count % 4]


def _work(root: bytes, done: list[str]) -> None:
    """Create, rename, remove; note each step once it returned."""
    d = root + b"/d"
    try:
        while len(done) < 140:
            number = len(done) // 4
            step = _steps(len(done))
            if step == "create":
                write(d + b"/made%d" % number, b"made")
            elif step == "rename":
                os.rename(d + b"/made%d" % number, d + b"/renamed%d" % number)
            elif step == "unlink":
                if number:
                    os.unlink(d + b"/renamed%d" % (number - 1))
            else:
                os.unlink(d + b"/low%d" % number)
            done.append(step)
    except OSError:
        pass  # the daemon is dead


def _model(done: list[str]) -> set[bytes]:
    """Return the names that must be there after the steps *done*."""
    names = {b"low%d" % n for n in range(40)}
    for count, step in enumerate(done):
        number = count // 4
        if step == "create":
            names.add(b"made%d" % number)
        elif step == "rename":
            names -= {b"made%d" % number}
            names.add(b"renamed%d" % number)
        elif step == "unlink":
            names.discard(b"renamed%d" % (number - 1))
        else:
            names.discard(b"low%d" % number)
    return names


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_unmount_and_leave_cleanly(union, layers, number):
    mounted = union(layers)
    write(mounted.root + b"/new", b"new")
    os.kill(mounted.pid, number)
    assert mounted.wait() == 0
    assert read(union(layers).root + b"/new") == b"new"
