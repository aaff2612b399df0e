"""`data=passthrough`: a file that is closed, and mapped. To the kernel the map has it not open."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.mount.test_passthrough import PASSES, PASSING, are_closed, open_files
from tests.support.files import opened, read, write
from tests.support.maps import mapped
from tests.support.mounts import SessionMount
from tests.support.stacks import File, build_stack

pytestmark = PASSES

SIZE = 10_000


@pytest.fixture
def mounted(scratch, union) -> Iterator[SessionMount]:
    """A mount in whose daemon no file of the upper is open at the end."""
    files = [File(b"f", b"old ", SIZE), File(b"big", b"old ", 4 << 20)]
    made = union(build_stack(scratch + b"/s", [files]), options=PASSING)
    yield made
    are_closed(made.pid, 0.1)
    read(made.root + b"/f")
    write(made.root + b"/last", b"")
    assert are_closed(made.pid)


@pytest.fixture(params=[b"/f", b"/new"])
def path(request, mounted) -> bytes:
    """A file that the kernel has by itself when it is opened."""
    found: bytes = mounted.root + request.param
    with opened(found, os.O_RDWR | os.O_CREAT) as fd:
        os.pwrite(fd, b"old " * (SIZE // 4), 0)
    return found


def test_what_is_written_by_the_map_is_read(mounted, path):
    """The file has a set-id bit when it is opened the next time, and would go through the cache."""
    with mapped(path, SIZE) as memory:
        are_closed(mounted.pid, 0.3)
        os.chmod(path, 0o4755)
        with opened(path, os.O_RDWR) as fd:
            assert os.pread(fd, 4, 0) == b"old "
            memory[:4] = b"map1"
            assert os.pread(fd, 4, 0) == b"map1"
            os.pwrite(fd, b"file", 4)
            assert memory[4:8] == b"file"
        memory[:4] = b"map2"
        assert read(path)[:8] == b"map2file"


def test_what_is_written_by_the_map_changes_the_time(mounted, path):
    with mapped(path, SIZE) as memory:
        are_closed(mounted.pid, 0.3)
        os.utime(path, (1, 1))
        assert os.stat(path).st_mtime == 1
        memory[:4] = b"map1"
        assert os.stat(path).st_mtime > 1


def test_maps_that_are_gone_keep_nothing_open(mounted):
    """All but some: nobody tells that they are gone."""
    for number in range(30):
        name = mounted.root + b"/%d" % number
        write(name, b"x" * SIZE)
        with mapped(name, SIZE):
            are_closed(mounted.pid, 0.02)
    assert len(open_files(mounted.pid)) < 4
    for number in range(30):
        read(mounted.root + b"/%d" % number)


def test_maps_that_are_gone_are_found_when_another_file_is_opened(mounted):
    """Of a program that had many, after which nobody maps anything."""
    with ExitStack() as maps:
        for number in range(40):
            name = mounted.root + b"/%d" % number
            write(name, b"x" * SIZE)
            maps.enter_context(mapped(name, SIZE))
        are_closed(mounted.pid, 0.3)
        assert len(open_files(mounted.pid)) == 40
    for _ in range(20):
        read(mounted.root + b"/f")
    assert are_closed(mounted.pid)


def test_who_reads_does_not_wait_for_those_that_were_closed(mounted):
    """Of requests that tell of it or read ahead, the kernel has a dozen under way at most.

    If each took 5 ms, it would be a third of a second, always. A busy machine may take as long for
    another reason, but not each time.
    """
    names = [mounted.root + b"/%d" % number for number in range(800)]
    assert any(_read_after_closing(mounted.root + b"/big", names) < 0.25 for _ in range(6))
    for _ in names:
        read(mounted.root + b"/f")  # each has two looked at


def _read_after_closing(path: bytes, names: list[bytes]) -> float:
    """Return how long it takes to read *path* when *names*, which are mapped, have been closed."""
    with ExitStack() as maps:
        fds = [os.open(name, os.O_RDWR | os.O_CREAT) for name in names]
        for name in names:
            maps.enter_context(mapped(name, SIZE))
        with opened(path, os.O_RDONLY) as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for fd in fds:
            os.close(fd)
        since = time.monotonic()
        assert read(path)[:4] == b"old "
        return time.monotonic() - since
