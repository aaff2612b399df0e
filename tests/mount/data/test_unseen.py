"""Writes of several processes to one file of a layer: who reads afterwards sees them, however.

Only with the extension. Without it the kernel is told to drop all pages whenever it hears of a new
time of change (FUSE_AUTO_INVAL_DATA, which pyfuse3 cannot decline), and it may do so between
changing a page and sending the write; who reads the page just then brings the old bytes back.
"""

from __future__ import annotations

import mmap
import os
import random

import pytest

from tests.support.examples import FULL
from tests.support.files import opened, read
from tests.support.racing import RECORD, Board, initial, together
from tests.support.stacks import Dir, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_extension]

COUNT = 1 << 20  # records: 8 MB, which takes some milliseconds to copy
SECONDS = 20.0 if FULL else 0.7  # a mount of the tests lives 300
FILES = 8


@pytest.fixture
def layers(scratch):
    made = build_stack(scratch + b"/s", [[Dir(b"d")], [Dir(b"d")]])
    content = initial(COUNT)
    for number in range(FILES):
        with open(made.lowers[-1] + b"/d/f%d" % number, "wb") as file:
            file.write(content)
    return made


def _reader(path: bytes, board: Board, flags: int, seed: int):
    """Read anywhere, mostly where it is written, from the cache, past it, or after dropping it."""

    def run() -> None:
        rng = random.Random(seed)
        size = 512 if flags & os.O_DIRECT else 5
        buffer = mmap.mmap(-1, 8192)
        with opened(path, flags) as fd:

            def get(offset: int, length: int) -> bytes:
                count = os.preadv(fd, [memoryview(buffer)[:length]], offset)
                return buffer[:count]

            while board.going:
                first = rng.randrange(2000 if rng.random() < 0.8 else COUNT - size)
                board.read(first // 512 * 512 if size == 512 else first, size, get)
                if rng.random() < 0.1:  # not what is being written: see below
                    os.posix_fadvise(fd, 2000 * RECORD, 0, os.POSIX_FADV_DONTNEED)

    return run


def _mapped_reader(path: bytes, board: Board, seed: int):
    def run() -> None:
        rng = random.Random(seed)
        with (
            opened(path, os.O_RDONLY) as fd,
            mmap.mmap(fd, COUNT * RECORD, prot=mmap.PROT_READ) as mapping,
        ):
            while board.going:
                first = rng.randrange(2000)
                board.read(first, 3, lambda at, size: mapping[at : at + size])

    return run


def _writer(path: bytes, board: Board, share: int, of: int, *, mapped: bool):
    """Write every *of*-th record among the first, which no other writes: they share every page."""

    def run() -> None:
        rng = random.Random(share)
        with opened(path, os.O_RDWR) as fd, mmap.mmap(fd, COUNT * RECORD) as mapping:

            def put(offset: int, data: bytes) -> None:
                if mapped:
                    mapping[offset : offset + len(data)] = data  # 8 bytes are copied at once
                else:
                    os.pwrite(fd, data, offset)

            while board.going:
                board.write(rng.randrange(2000 // of) * of + share, put)
                if rng.random() < 0.01:
                    mapping.flush(0, mmap.PAGESIZE)

    return run


def test_nothing_written_is_unseen(union, layers):
    """From the first write on, which copies the file up, everybody sees what was written before."""
    root = union(layers).root
    for number in range(FILES if FULL else 3):
        path = root + b"/d/f%d" % number
        board = Board(COUNT)
        with opened(path, os.O_RDONLY) as before:  # its pages are in the cache
            os.pread(before, 1 << 20, 0)
            readers = [
                _reader(path, board, os.O_RDONLY, 1),
                _reader(path, board, os.O_RDONLY | os.O_DIRECT, 2),
                _mapped_reader(path, board, 3),
            ]
            writers = [_writer(path, board, share, 3, mapped=share == 2) for share in range(3)]
            together(readers + writers, board, seconds=SECONDS)
            board.read(0, COUNT, lambda at, size: os.pread(before, size, at))
            os.posix_fadvise(before, 0, 0, os.POSIX_FADV_DONTNEED)
            board.read(0, COUNT, lambda at, size: os.pread(before, size, at))
    root = union(layers.read_only()).root
    board.read(0, COUNT, lambda at, size: read(path.replace(os.path.dirname(path), root + b"/d")))
