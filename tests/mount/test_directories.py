"""Directories: removed and made again, renamed with lower parts, listed while they change."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.support import kernel, trees
from tests.support.examples import FULL
from tests.support.files import opened, read, refused, write
from tests.support.fixtures import compared
from tests.support.kernel import getdents, getdents_once
from tests.support.stacks import Dir, File, Whiteout, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


def _rm_rf(path: bytes) -> None:
    for folder, dirs, files in os.walk(path, topdown=False):
        for name in files:
            os.unlink(os.path.join(folder, name))
        for name in dirs:
            os.rmdir(os.path.join(folder, name))
    os.rmdir(path)


def _kernel_agrees(mounted, layers, again) -> None:
    """Unmount ours; the next mount of what we wrote, the kernel's, must show the same tree."""
    ours = trees.snapshot(mounted.root)
    mounted.unmount()
    trees.assert_same(ours, trees.snapshot(again(layers).root), ("union", "kernel"))


@compared
def test_removed_made_again_and_moved(scratch, union, again):
    """``rm -rf a; mkdir -p a/b; mv a/b b``"""
    layers = build_stack(
        scratch + b"/s", [[File(b"a/b/old"), File(b"a/c/old"), File(b"b-not")], [File(b"a/b/mid")]]
    )
    mounted = union(layers)
    a, b = mounted.root + b"/a", mounted.root + b"/b"
    _rm_rf(a)
    os.makedirs(a + b"/b")
    assert os.listdir(a + b"/b") == []
    os.rename(a + b"/b", b)
    assert os.listdir(b) == []
    assert os.listdir(a) == []
    _kernel_agrees(mounted, layers, again)


@compared
def test_a_deleted_directory_made_again_is_empty(scratch, union, again):
    layers = build_stack(scratch + b"/s", [[File(b"d/x/y"), File(b"d/z")], [File(b"d/x/w")]])
    mounted = union(layers)
    d = mounted.root + b"/d"
    _rm_rf(d)
    with refused(errno.ENOENT):
        os.lstat(d)
    os.mkdir(d)
    assert os.listdir(d) == []
    for hidden in (b"/z", b"/x", b"/x/y"):
        with refused(errno.ENOENT):  # lookup and readdir agree
            os.lstat(d + hidden)
    os.mkdir(d + b"/x")
    assert os.listdir(d + b"/x") == []
    _kernel_agrees(mounted, layers, again)


@compared
def test_renamed_across_three_layers_with_whiteouts_inside(scratch, union, again):
    layers = build_stack(
        scratch + b"/s",
        [
            [File(b"src/one", b"1"), File(b"src/gone"), File(b"src/sub/deep", b"deep")],
            [Whiteout(b"src/gone"), File(b"src/two", b"2"), Dir(b"dst/inner")],
            [File(b"src/three", b"3"), File(b"src/sub/top", b"top")],
        ],
    )
    mounted = union(layers)
    root = mounted.root
    os.unlink(root + b"/src/one")
    os.rename(root + b"/src", root + b"/dst/moved")
    moved = root + b"/dst/moved"
    assert sorted(os.listdir(moved)) == [b"sub", b"three", b"two"]
    assert sorted(os.listdir(moved + b"/sub")) == [b"deep", b"top"]
    assert read(moved + b"/sub/deep")[:4] == b"deep"
    with refused(errno.ENOENT):
        os.lstat(root + b"/src")
    os.rename(moved + b"/sub", root + b"/sub")
    os.mkdir(root + b"/src")
    assert os.listdir(root + b"/src") == []
    _kernel_agrees(mounted, layers, again)


def test_renaming_a_directory_never_says_exdev(scratch, union):
    """dpkg, conda, npm and rustup rename directories that came with the image."""
    long = b"n" * 255
    layers = build_stack(scratch + b"/s", [[File(b"d/" + long + b"/" + long + b"/f", b"x")]])
    root = union(layers).root
    os.rename(root + b"/d/" + long + b"/" + long, root + b"/short")
    assert os.listdir(root + b"/short") == [b"f"]
    os.rename(root + b"/d", root + b"/e")
    assert os.listdir(root + b"/e/" + long) == []


@compared
def test_a_directory_renamed_back_and_forth(scratch, union, again):
    layers = build_stack(scratch + b"/s", [[File(b"p/d/f", b"x"), Dir(b"q")]])
    mounted = union(layers)
    p, q = mounted.root + b"/p/d", mounted.root + b"/q/d"
    for _ in range(3):
        os.rename(p, q)
        assert os.listdir(mounted.root + b"/p") == []
        os.rename(q, p)
        assert os.listdir(p) == [b"f"]
    os.rename(p, q)
    os.mkdir(p)
    kernel.renameat2(p, q, kernel.RENAME_EXCHANGE)
    assert os.listdir(p) == [b"f"]
    assert os.listdir(q) == []
    _kernel_agrees(mounted, layers, again)


def test_rename_over_directories(scratch, union):
    layers = build_stack(
        scratch + b"/s", [[File(b"full/f"), Dir(b"empty"), File(b"emptied/f"), File(b"file")]]
    )
    root = union(layers).root
    with refused(errno.ENOTEMPTY):
        os.rename(root + b"/empty", root + b"/full")
    os.unlink(root + b"/emptied/f")
    os.rename(root + b"/full", root + b"/emptied")
    assert os.listdir(root + b"/emptied") == [b"f"]
    with refused(errno.EINVAL):
        os.rename(root + b"/emptied", root + b"/emptied/into-itself")
    with refused(errno.ENOTDIR):
        os.rename(root + b"/empty", root + b"/file")
    with refused(errno.EISDIR):
        os.rename(root + b"/file", root + b"/empty")


def test_listing_while_names_come_and_go(scratch, union):
    """Names that stay are seen exactly once; names that went or came may or may not be."""
    stay = {b"stay-%04d-" % n + b"x" * 40 for n in range(400)}
    go = {b"go-%04d-" % n + b"x" * 40 for n in range(400)}
    layers = build_stack(
        scratch + b"/s",
        [[File(b"d/" + name, size=0) for name in sorted(stay)[::2] + sorted(go)[::2]]],
    )
    d = union(layers).root + b"/d"
    for name in sorted(stay)[1::2] + sorted(go)[1::2]:
        write(d + b"/" + name, b"")
    seen: list[bytes] = []
    with opened(d, os.O_RDONLY | os.O_DIRECTORY) as fd:
        for count, name in enumerate(sorted(go)):
            if count % 10 == 0:
                seen += [entry.name for entry in getdents_once(fd, 1024)]
            os.unlink(d + b"/" + name)
            write(d + b"/new-%d" % count, b"")
        seen += [entry.name for entry in getdents(fd, size=1024)]
    assert len(seen) == len(set(seen)), "a name was listed twice"
    assert stay <= set(seen), "a name that stayed was not listed"


def test_rewinding_shows_what_is_there_now(scratch, union):
    layers = build_stack(scratch + b"/s", [[File(b"d/a"), File(b"d/b")]])
    d = union(layers).root + b"/d"
    with opened(d, os.O_RDONLY | os.O_DIRECTORY) as fd:
        assert {e.name for e in getdents(fd)} == {b".", b"..", b"a", b"b"}
        os.unlink(d + b"/a")
        write(d + b"/c", b"")
        os.lseek(fd, 0, os.SEEK_SET)
        assert {e.name for e in getdents(fd)} == {b".", b"..", b"b", b"c"}


def test_dots_have_the_numbers_of_their_directories(scratch, union):
    layers = build_stack(scratch + b"/s", [[File(b"d/e/f")], [File(b"d/e/g")]])
    root = union(layers).root
    dots = _dots(root + b"/d/e")
    assert dots[b"."] == os.lstat(root + b"/d/e").st_ino
    assert dots[b".."] == os.lstat(root + b"/d").st_ino


def _dots(path: bytes) -> dict[bytes, int]:
    with opened(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
        return {entry.name: entry.ino for entry in getdents(fd)}


@compared
def test_a_moved_directory_lists_the_number_of_its_new_parent(scratch, union):
    layers = build_stack(scratch + b"/s", [[File(b"p/d/f"), File(b"q/e/g")], [Dir(b"p/e")]])
    root = union(layers).root
    places = [root + b"/p/d", root + b"/q/e"]
    for _ in range(2):  # the second one is what the kernel has
        first, second = map(_dots, places)
    os.rename(places[0], root + b"/q/d")
    assert _dots(root + b"/q/d")[b".."] == second[b".."]
    kernel.renameat2(root + b"/q/e", root + b"/p/e", kernel.RENAME_EXCHANGE)
    assert _dots(root + b"/p/e")[b".."] == first[b".."]


def test_links_of_what_is_cut_off_from_its_lower_parts(scratch, union):
    """Merged directories have one link, as the kernel's overlayfs has it; others count theirs."""
    long = b"l" * 200
    path = long + b"/" + long + b"/d"
    layers = build_stack(scratch + b"/s", [[Dir(path + b"/sub")]])
    root = union(layers).root
    os.rename(root + b"/" + path + b"/sub", root + b"/" + path + b"/moved")
    assert os.lstat(root + b"/" + path + b"/moved").st_nlink == 1
    os.rename(root + b"/" + path, root + b"/d")
    assert [os.lstat(root + b"/d" + name).st_nlink for name in (b"", b"/moved")] == [3, 2]


def test_the_number_of_the_root_stays(scratch, union):
    """Whoever answers: the daemon, what it answered before, or a listing that shows the dots."""
    root = union(build_stack(scratch + b"/s", [[File(b"p/d/f")]])).root
    number = os.lstat(root).st_ino
    _rm_rf(root + b"/p/d")
    os.mkdir(root + b"/p/d")
    write(root + b"/p/d/f", b"new")
    for _ in range(3):
        assert trees.snapshot(root).nodes[b"."].ino == number


def test_a_removed_directory_that_is_still_open(scratch, union):
    layers = build_stack(scratch + b"/s", [[Dir(b"low")]])
    root = union(layers).root
    os.mkdir(root + b"/up")
    for name in (b"/low", b"/up"):
        with opened(root + name, os.O_RDONLY | os.O_DIRECTORY) as fd:
            os.rmdir(root + name)
            assert os.fstat(fd).st_nlink == 0
            with refused(errno.ENOENT):  # as on any Linux filesystem
                getdents(fd)
            with refused(errno.ENOENT):
                os.open(b"new", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
            with refused(errno.ENOENT):
                os.mkdir(b"new", dir_fd=fd)


def test_a_large_directory(scratch, union):
    """100,000 files in the full run: all listed once, from a lower and from the upper."""
    count = 100_000 if FULL else 5_000
    layers = build_stack(scratch + b"/s", [[File(b"d/low-%06d" % n, size=0) for n in range(count)]])
    mounted = union(layers)
    d = mounted.root + b"/d"
    for n in range(0, count, 2):
        os.unlink(d + b"/low-%06d" % n)
        write(d + b"/up-%06d" % n, b"")
    expected = {b"low-%06d" % n for n in range(1, count, 2)}
    expected |= {b"up-%06d" % n for n in range(0, count, 2)}
    names = os.listdir(d)
    assert len(names) == len(set(names)) == count
    assert set(names) == expected
    assert _resident(mounted.pid) < 80_000 + count  # KiB: 1 KiB a name over what Python takes


def test_making_and_removing_keeps_the_daemon_level(scratch, union):
    """262,144 times in the full run: neither descriptors nor memory grow."""
    mounted = union(build_stack(scratch + b"/s", [[File(b"low/f")]]))
    rounds = 262_144 if FULL else 3_000
    _make_and_remove(mounted.root, 1_000)
    descriptors, memory = _descriptors(mounted.pid), _resident(mounted.pid)
    _make_and_remove(mounted.root, rounds)
    assert _descriptors(mounted.pid) <= descriptors + 5
    assert _resident(mounted.pid) <= memory + 3_000


def _make_and_remove(root: bytes, rounds: int) -> None:
    for n in range(rounds):
        name = root + b"/low/%d" % n
        os.mkdir(name)
        os.rmdir(name)
    for _ in range(rounds // 10):
        os.mkdir(name)
        os.mkdir(name + b"-replaced")
        os.rename(name, name + b"-replaced")
        os.rmdir(name + b"-replaced")


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _resident(pid: int) -> int:
    """Return the resident memory of *pid* in KiB."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def test_files_read_and_closed_keep_the_daemon_level(scratch, union):
    layers = build_stack(
        scratch + b"/s", [[File(b"%d/%d" % (a, b)) for a in range(60) for b in range(20)]]
    )
    mounted = union(layers)

    def walk() -> None:
        for folder, _dirs, files in os.walk(mounted.root):
            for name in files:
                read(os.path.join(folder, name))

    walk()
    descriptors = _descriptors(mounted.pid)
    for _ in range(3):
        walk()
    assert _descriptors(mounted.pid) <= descriptors + 5


def test_a_reader_in_the_middle_while_others_change_and_list(scratch, union):
    """Every name that stays comes once; removing what is read leaves nothing."""
    files = [File(b"d/%04d" % number) for number in range(3000)]
    d = union(build_stack(scratch + b"/s", [files])).root + b"/d"
    with os.scandir(d) as reader:
        seen = [next(reader).name]
        for number in range(30):
            write(d + b"/new%d" % number, b"")
            os.listdir(d)
            if number % 3:
                os.unlink(d + b"/new%d" % number)
        seen += [entry.name for entry in reader]
    assert sorted(name for name in seen if name[:3] != b"new") == [b"%04d" % n for n in range(3000)]
    with os.scandir(d) as reader:
        for number, entry in enumerate(reader):
            os.unlink(entry.path)
            if number % 20 == 0:
                os.listdir(d)
    os.rmdir(d)


def _look(path: bytes) -> None:
    """Look at *path* in another process, for a few seconds at most."""
    subprocess.run(["ls", "-d", path], capture_output=True, timeout=10)


@contextmanager
def _child(work: Callable[[], object]) -> Iterator[int]:
    """Do *work* in a child, which must end well after the block."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if work() else 1)
    try:
        yield pid
    finally:
        assert os.waitpid(pid, 0)[1] == 0


def _is_running(pid: int) -> bool:
    return os.waitpid(pid, os.WNOHANG) == (0, 0)


def test_a_reader_whose_memory_does_not_come_keeps_nobody_waiting(scratch, union):
    """Names had changed: the kernel was to forget the listing that it was copying to him, and for
    that the daemon waited. Whoever can read a directory could stop the mount.
    """
    root = union(build_stack(scratch + b"/s", [[File(b"d/%04d" % n) for n in range(3000)]])).root
    slow = union(build_stack(scratch + b"/slow", [[File(b"page", size=mmap.PAGESIZE), File(b"x")]]))
    d = root + b"/d"
    os.listdir(d)
    read(slow.root + b"/x")  # and close it: the kernel is told to ask for no FLUSH, as children do
    with ExitStack() as stack:
        reader = stack.enter_context(opened(d, os.O_RDONLY | os.O_DIRECTORY))
        page = stack.enter_context(opened(slow.root + b"/page", os.O_RDONLY))
        memory = mmap.mmap(page, mmap.PAGESIZE, mmap.MAP_PRIVATE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        assert kernel.getdents_once(reader, mmap.PAGESIZE)
        write(d + b"/new", b"")
        os.kill(slow.pid, signal.SIGSTOP)
        stalled = _child(lambda: kernel.getdents_to(reader, address, mmap.PAGESIZE))
        pid = stack.enter_context(stalled)
        time.sleep(0.2)
        stack.enter_context(_child(lambda: len(os.listdir(d)) == 3001))
        stack.callback(os.kill, slow.pid, signal.SIGCONT)
        time.sleep(0.2)
        _look(root + b"/none")
        assert _is_running(pid)
