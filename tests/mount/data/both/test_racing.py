"""Readers and writers of one file in several processes, while it is copied up, cut and appended to.

Reads are answered in C from the layer's file while a thread copies it; the moment it is done, every
descriptor has to go on with the copy.
"""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import sys
import zlib

import pytest

from tests.support.examples import FULL
from tests.support.files import opened, read
from tests.support.racing import RECORD, Board, initial, together
from tests.support.stacks import Dir, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

COUNT = 1 << 20  # records: 8 MB, which takes some milliseconds to copy
SECONDS = 20.0 if FULL else 0.7  # a mount of the tests lives 300


@pytest.fixture
def layers(scratch):
    made = build_stack(scratch + b"/s", [[Dir(b"d")], [Dir(b"d")]])
    content = initial(COUNT)
    with open(made.lowers[-1] + b"/d/f0", "wb") as file:
        file.write(content)
    return made


def _cutter(path: bytes, board: Board):
    """Cut the file and put back what was there, piece by piece; then all must be there at once.

    No page that a reader asked for in between may have stayed.
    """

    def run() -> None:
        rng = random.Random(5)
        whole = initial(4000)
        with opened(path, os.O_RDWR) as fd:
            while board.going:
                at = rng.randrange(4000) * RECORD
                os.ftruncate(fd, at)
                while at < len(whole):
                    size = rng.randrange(1, 2000) * RECORD
                    at += os.pwrite(fd, whole[at : at + size], at)
                assert os.pread(fd, len(whole) + 1, 0) == whole

    return run


def _prefix_reader(path: bytes, board: Board, flags: int):
    """Each byte must be what was written there, or 0: read(2) and truncation are not atomic.

    ext4 too shows the zeros of a page that is being cut.
    """

    def run() -> None:
        rng = random.Random(flags)
        whole = initial(COUNT)
        buffer = mmap.mmap(-1, 65536)
        with opened(path, flags) as fd:
            while board.going:
                at = rng.randrange(16) * 4096
                count = os.preadv(fd, [memoryview(buffer)[:16384]], at)
                pairs = zip(buffer[:count], whole[at : at + count], strict=True)
                assert all(got in (0, written) for got, written in pairs)
                if rng.random() < 0.3:
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    return run


def test_cut_and_written_again_under_readers(union, layers):
    """A reader may find less than there was, and never a byte that nobody wrote."""
    path = union(layers).root + b"/d/f0"
    board = Board(1)
    readers = [_prefix_reader(path, board, flags) for flags in (os.O_RDONLY, os.O_DIRECT)]
    together([_cutter(path, board), *readers], board, seconds=SECONDS)
    assert read(path) == initial(4000)


APPENDER = """
import os, random, sys, zlib
path, name, flags, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
fd = os.open(path, os.O_WRONLY | os.O_APPEND | flags)
rng = random.Random(name)
for number in range(count):
    body = b"%s %d " % (name.encode(), number) + rng.randbytes(rng.randrange(9000)).hex().encode()
    line = b"%08x %s\\n" % (zlib.crc32(body), body)
    assert os.write(fd, line) == len(line)
"""


def test_lines_appended_by_many_processes_are_whole_and_in_order(union, layers):
    """To a file that the first of them copies up; with and without O_DSYNC."""
    path = union(layers).root + b"/d/f0"
    count = 2000 if FULL else 60
    os.truncate(layers.lowers[-1] + b"/d/f0", 0)
    with open(layers.lowers[-1] + b"/d/f0", "wb") as file:
        file.write(b"first\n" * 200_000)
    words = [(b"a", 0), (b"b", 0), (b"c", os.O_DSYNC), (b"d", 0)]
    workers = [
        subprocess.Popen([sys.executable, "-c", APPENDER, path, name, str(flags), str(count)])
        for name, flags in words
    ]
    assert [worker.wait(250) for worker in workers] == [0] * 4
    lines = read(path).splitlines()
    assert lines[:200_000] == [b"first"] * 200_000
    numbers: dict[bytes, int] = {name: 0 for name, _ in words}
    for line in lines[200_000:]:
        body = line[9:]
        assert int(line[:8], 16) == zlib.crc32(body)
        name, number, _ = body.split(b" ", 2)
        assert int(number) == numbers[name], "a line is missing or out of order"
        numbers[name] += 1
    assert set(numbers.values()) == {count}


_WRITES_BACK = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
while True:
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
"""


def test_a_page_on_its_way_does_not_come_back_after_o_trunc(union, layers):
    """Somebody lets the kernel send pages that a map has changed, while the file is emptied."""
    path = union(layers).root + b"/d/new"
    size = 1 << 20
    with opened(path, os.O_RDWR | os.O_CREAT) as fd:
        os.ftruncate(fd, size)
        with subprocess.Popen([sys.executable, "-c", _WRITES_BACK, path]) as other:
            try:
                for number in range(2000 if FULL else 60):
                    with mmap.mmap(fd, size) as mapping:
                        mapping[:] = bytes([1 + number % 255]) * size
                        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
                        assert os.fstat(fd).st_size == 0
                    os.ftruncate(fd, size)
                    assert os.pread(fd, size, 0) == bytes(size), number
            finally:
                other.kill()
