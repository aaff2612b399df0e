"""Holes: kept by a copy-up, searched by many at a time while others write into maps, copied."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support import kernel
from tests.support.files import opened, read
from tests.support.stacks import Dir, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

HUGE = 1 << 40  # bytes, of which some are data
ISLANDS = (0, 5 << 20, 3 << 30, HUGE - 10)


@pytest.fixture
def layers(scratch):
    made = build_stack(scratch + b"/s", [[Dir(b"d")], [Dir(b"d")]])
    with open(made.lowers[-1] + b"/d/huge", "wb") as file:
        for at in ISLANDS:
            file.seek(at)
            file.write(b"0123456789")
    return made


def _data(fd: int) -> list[int]:
    """Return where SEEK_DATA finds data, page by page."""
    found, at = [], 0
    while True:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: no more
            return found
        found.append(at)
        at = os.lseek(fd, at, os.SEEK_HOLE)


def test_a_huge_file_with_holes_is_copied_up_as_it_is(union, layers):
    """In a moment, with the space that its data needs."""
    path = union(layers).root + b"/d/huge"
    with opened(path, os.O_RDWR) as fd:
        os.pwrite(fd, b"X", 5 << 20)
        assert os.fstat(fd).st_size == HUGE
        for at in ISLANDS:
            data = b"X123456789" if at == 5 << 20 else b"0123456789"
            assert os.pread(fd, 20, at - 5 if at else 0).strip(b"\0")[:10] == data
        os.fsync(fd)
    with opened(layers.upper + b"/d/huge", os.O_RDONLY) as fd:
        assert _data(fd) == [at // 4096 * 4096 for at in ISLANDS]
        assert os.fstat(fd).st_blocks * 512 <= 64 << 10


def test_a_hole_stays_one_when_the_file_grows_and_is_written(union, layers):
    path = union(layers).root + b"/d/new"
    with opened(path, os.O_RDWR | os.O_CREAT) as fd:
        os.ftruncate(fd, HUGE)
        os.pwrite(fd, b"data", HUGE // 2)
        os.fsync(fd)
        assert os.fstat(fd).st_blocks * 512 <= 64 << 10
        assert os.pread(fd, 6, HUGE // 2 - 1) == b"\0data\0"
        os.ftruncate(fd, HUGE // 2 + 2)
        os.ftruncate(fd, HUGE)
        assert os.pread(fd, 6, HUGE // 2 - 1) == b"\0da\0\0\0"


def test_copied_by_programs(union, layers):
    """cp(1) leaves the holes out, and what somebody has just written is no hole."""
    root = union(layers).root
    with opened(root + b"/d/some", os.O_RDWR | os.O_CREAT) as fd:
        os.ftruncate(fd, 50 << 20)
        os.pwrite(fd, b"just written", 20 << 20)
        subprocess.run(["cp", "--sparse=auto", root + b"/d/some", root + b"/d/copy"], check=True)
        assert read(root + b"/d/copy") == os.pread(fd, 60 << 20, 0)


SEARCHER = """
import mmap, os, sys, threading
N, root = 90, sys.argv[1]
fds = [os.open(f"{root}/f{n}", os.O_RDWR | os.O_CREAT) for n in range(N)]
for fd in fds:
    os.ftruncate(fd, 1 << 20)
maps = [mmap.mmap(fd, 1 << 20) for fd in fds]
together = threading.Barrier(N)
wrong = []
def finds(fd, at):
    "Whether stepping from data to hole, as cp does, comes to what is at that place."
    hole = 0
    for step in range(100):
        data = os.lseek(fd, hole, os.SEEK_DATA)
        hole = os.lseek(fd, data, os.SEEK_HOLE)
        if data <= at < hole or data > at:
            return data <= at
def search(n):
    for turn in range(10):
        at = 4096 * (200 - turn)
        maps[n][at : at + 4] = b"data"
        together.wait()
        if not finds(fds[n], at):
            wrong.append((n, turn))
threads = [threading.Thread(target=search, args=(n,)) for n in range(N)]
for thread in threads: thread.start()
for thread in threads: thread.join()
sys.exit(str(wrong) if wrong else 0)
"""


@pytest.mark.needs_extension
def test_many_search_for_holes_in_files_that_they_write_to(union, layers, scratch):
    """To find a hole the daemon has the kernel send mapped pages: with more searches at a time
    than it has workers, nobody was left to take them, and the mount stood still for ever.
    """
    root = union(layers).root
    process = subprocess.Popen([sys.executable, "-c", SEARCHER, root])
    try:
        assert process.wait(60) == 0
    except subprocess.TimeoutExpired:
        kernel.abort_fuse(root, scratch + b"/control")  # no signal reaches those that wait
        process.kill()
        process.wait()
        raise
