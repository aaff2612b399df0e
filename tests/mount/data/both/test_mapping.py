"""Mappings: shared with other programs and with read(2), private, cut off, across a copy-up.

Each case runs on a file of the upper, on one of a layer, and on one that is copied up in the middle
by a chmod; what it may see is what ext4 shows, where it runs as well.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import mmap
import os
import shutil
import signal
import subprocess
import time
from typing import NoReturn

import pytest

from tests.support import kernel
from tests.support.files import opened, read, refused, write
from tests.support.stacks import File, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

PAGE = mmap.PAGESIZE
SIZE = 50 * PAGE + 1234
OLD = (b"old " * SIZE)[:SIZE]
_MS_SYNC = 4
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_int64)
_libc.msync.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class Place:
    """A file of one kind; ``middle`` is called where a case wants its copy-up."""

    def __init__(self, path: bytes, kind: str) -> None:
        self.path = path
        self.kind = kind

    def middle(self) -> None:
        if self.kind == "midway":
            os.chmod(self.path, 0o600)


@pytest.fixture(params=["plain", "upper", "lower", "midway"])
def place(request, scratch, union, tmp_path):
    if request.param == "plain":
        path = os.fsencode(tmp_path / "f")  # on a disk: tmpfs shows what was written behind the end
        write(path, OLD)
        return Place(path, "plain")
    layers = build_stack(scratch + b"/s", [[File(b"d/f", b"old ", SIZE)], [File(b"other")]])
    path = union(layers).root + b"/d/f"
    if request.param == "upper":
        os.unlink(path)
        write(path, OLD)
    return Place(path, request.param)


def _outcome(function) -> int:
    """Run *function* in a child; return what ended it: 0, 1 for an exception, or minus a signal."""
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()  # a SIGBUS is what some of them are for
        status = 1
        try:
            function()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _map(fd: int, size: int = SIZE, **how) -> mmap.mmap:
    return mmap.mmap(fd, size, **how)


def test_writes_are_seen_by_mappings_and_back(place):
    with (
        opened(place.path, os.O_RDWR) as fd,
        opened(place.path, os.O_RDONLY) as reader,
        _map(fd) as one,
        _map(reader, prot=mmap.PROT_READ) as other,
    ):
        assert one[:] == other[:] == OLD
        one[PAGE - 2 : PAGE + 3] = b"first"
        assert other[PAGE - 2 : PAGE + 3] == os.pread(reader, 5, PAGE - 2) == b"first"
        place.middle()
        os.pwrite(fd, b"second", 3 * PAGE - 3)
        assert one[3 * PAGE - 3 : 3 * PAGE + 3] == other[3 * PAGE - 3 : 3 * PAGE + 3] == b"second"
        one[SIZE - 5 :] = b"third"
        assert other[SIZE - 5 :] == os.pread(reader, 9, SIZE - 5) == b"third"
        assert read(place.path) == other[:]


def test_a_mapping_is_shared_between_processes(place):
    """The child writes by its mapping, the parent reads by its own, and the other way round."""
    with opened(place.path, os.O_RDWR) as fd, _map(fd) as ours:
        assert ours[:4] == b"old "

        def child() -> None:
            with opened(place.path, os.O_RDWR) as mine, _map(mine) as theirs:
                theirs[7:12] = b"child"
                os.pwrite(mine, b"written", 2 * PAGE)

        place.middle()
        assert _outcome(child) == 0
        assert ours[7:12] == b"child"
        assert ours[2 * PAGE : 2 * PAGE + 7] == b"written"


def test_a_mapping_outlives_descriptor_and_name(place):
    with opened(place.path, os.O_RDWR) as fd:
        mapping = _map(fd)
    place.middle()
    mapping[:5] = b"later"
    assert read(place.path)[:8] == b"laterold"[:5] + OLD[5:8]
    keep = os.open(place.path, os.O_RDONLY)
    os.unlink(place.path)
    mapping[PAGE : PAGE + 4] = b"more"
    mapping.flush()
    assert os.pread(keep, 4, PAGE) == b"more"
    assert os.pread(keep, 4, SIZE - 4) == OLD[-4:]
    os.close(keep)
    assert mapping[:5] == b"later"
    mapping.close()


def test_what_a_private_mapping_wrote_stays_its_own(place):
    flags, both = mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE
    with opened(place.path, os.O_RDWR) as fd, _map(fd, flags=flags, prot=both) as mine:
        mine[10:14] = b"mine"
        place.middle()
        os.pwrite(fd, b"other", 10)
        assert mine[10:14] == b"mine"
        assert os.pread(fd, 5, 10) == b"other"
        assert mine[SIZE - 4 :] == OLD[-4:]
    assert read(place.path)[10:15] == b"other"


def test_access_behind_the_end_is_sigbus(place):
    """After a truncation the rest of the last page is zero, and the pages behind it are gone."""
    cut = 3 * PAGE + 100
    with opened(place.path, os.O_RDWR) as fd, _map(fd) as mapping:
        assert mapping[4 * PAGE] == OLD[4 * PAGE]
        place.middle()
        os.ftruncate(fd, cut)
        assert mapping[cut - 4 : cut] == OLD[cut - 4 : cut]
        assert mapping[cut : 4 * PAGE] == bytes(4 * PAGE - cut)
        assert _outcome(lambda: mapping[4 * PAGE]) == -signal.SIGBUS
        assert _outcome(lambda: mapping.__setitem__(5 * PAGE, 1)) == -signal.SIGBUS
        os.ftruncate(fd, SIZE)
        assert mapping[cut:] == bytes(SIZE - cut)
        mapping[SIZE - 1 :] = b"!"
        assert read(place.path) == OLD[:cut] + bytes(SIZE - cut - 1) + b"!"


def test_truncated_on_opening_under_a_mapping(place):
    with opened(place.path, os.O_RDWR) as fd, _map(fd) as mapping:
        assert mapping[:4] == OLD[:4]
        place.middle()
        write(place.path, b"short")
        assert mapping[:5] == b"short"
        assert mapping[5:PAGE] == bytes(PAGE - 5)
        assert _outcome(lambda: mapping[PAGE]) == -signal.SIGBUS


def test_what_was_written_behind_the_end_does_not_come_back(place):
    """A mapping may write to the rest of the last page; nobody reads that when the file grows."""
    with opened(place.path, os.O_RDWR) as fd:
        address = _libc.mmap(None, 52 * PAGE, 3, mmap.MAP_SHARED, fd, 0)
        assert address is not None
        place.middle()
        ctypes.memmove(address + SIZE - 4, b"seen", 4)
        ctypes.memmove(address + SIZE, b"never seen", 10)
        assert _libc.msync(address, SIZE, _MS_SYNC) == 0
        os.ftruncate(fd, SIZE + 100)
        assert os.pread(fd, 200, SIZE - 4) == b"seen" + bytes(100)
        _libc.munmap(address, 52 * PAGE)
    assert read(place.path)[SIZE:] == bytes(100)


def test_the_time_of_change_follows_a_mapping(place):
    """mtime moves when a mapping's changes are written back, at the latest at msync(2)."""
    os.utime(place.path, ns=(0, 0))
    with opened(place.path, os.O_RDWR) as fd, _map(fd) as mapping:
        mapping[0] = 1
        mapping.flush()
        assert os.fstat(fd).st_mtime_ns > 0
        assert os.stat(place.path).st_mtime_ns == os.fstat(fd).st_mtime_ns


def test_everything_is_there_after_the_mapping_is_gone(scratch, union):
    """munmap and close, with no sync: the bytes are in the upper's file (DESIGN 2.3)."""
    layers = build_stack(scratch + b"/s", [[File(b"f", b"old ", SIZE)]])
    with opened(union(layers).root + b"/f", os.O_RDWR) as fd:
        mapping = _map(fd)
        mapping[::PAGE] = b"X" * len(mapping[::PAGE])
        mapping.close()
    expected = bytearray(OLD)
    expected[::PAGE] = b"X" * len(expected[::PAGE])
    assert read(layers.upper + b"/f") == expected


def test_a_running_program_is_copied_up(place):
    """Its pages stay good, it cannot be written (ETXTBSY), and can when it has ended."""
    shutil.copyfile(b"/bin/sleep", place.path)
    os.chmod(place.path, 0o755)
    with subprocess.Popen([place.path, "1000"]) as process:
        try:
            while b"sleep" not in os.readlink(b"/proc/%d/exe" % process.pid) and (
                os.readlink(b"/proc/%d/exe" % process.pid) != place.path
            ):
                assert process.poll() is None
            os.chmod(place.path, 0o700)
            with refused(errno.ETXTBSY), opened(place.path, os.O_WRONLY):
                pass
            with refused(errno.ETXTBSY):
                os.truncate(place.path, 0)
            assert process.poll() is None
        finally:
            process.terminate()
    write(place.path, b"#!/bin/sh\nexit 7\n")
    assert subprocess.run([place.path], check=False).returncode == 7


def test_a_program_of_a_layer_runs_through_its_copy_up(scratch, union):
    """Its pages were mapped from the layer's file; the rest is paged in from the copy."""
    layers = build_stack(scratch + b"/s", [[File(b"d/other")]])
    shutil.copyfile(b"/bin/sleep", layers.lowers[0] + b"/d/sleep")
    os.chmod(layers.lowers[0] + b"/d/sleep", 0o755)
    path = union(layers).root + b"/d/sleep"
    with subprocess.Popen([path, "1000"]) as process:
        try:
            while os.readlink(b"/proc/%d/exe" % process.pid) != path:
                assert process.poll() is None
            os.chmod(path, 0o711)
            with opened(path, os.O_RDONLY) as fd:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            assert process.poll() is None
            with refused(errno.ETXTBSY), opened(path, os.O_WRONLY):
                pass
        finally:
            process.terminate()
            assert process.wait() == -signal.SIGTERM
    assert os.lstat(layers.upper + b"/d/sleep").st_mode & 0o777 == 0o711


def test_a_mapping_may_be_longer_than_a_file_that_then_grows(place):
    """What is written behind the old end shows in it, whoever wrote."""
    with opened(place.path, os.O_RDWR) as fd:
        address = _libc.mmap(None, 60 * PAGE, 1, mmap.MAP_SHARED, fd, 0)
        place.middle()
        with opened(place.path, os.O_WRONLY | os.O_APPEND) as appender:
            os.write(appender, b"grown" * PAGE)
        seen = ctypes.string_at(address + SIZE, 5 * PAGE)
        assert seen == b"grown" * PAGE
        _libc.munmap(address, 60 * PAGE)


def _write_back_for_ever(fd: int) -> NoReturn:
    try:
        while True:
            kernel.write_back(fd, wait=False)
    finally:
        os._exit(1)  # not as a second run of these tests


def _loses_what_is_appended(path: bytes, seconds: float) -> bool:
    """Append to a file whose last page a mapping has changed, while that page is written back."""
    until = time.monotonic() + seconds
    with opened(path, os.O_RDWR) as fd, opened(path, os.O_WRONLY | os.O_APPEND) as appender:
        os.ftruncate(fd, PAGE)
        mapping = _map(fd, PAGE)
        pid = os.fork()
        if pid == 0:
            _write_back_for_ever(fd)
        try:
            while time.monotonic() < until:
                os.ftruncate(fd, 100)
                mapping[:100] = b"m" * 100
                os.write(appender, b"a" * 2000)
                if os.pread(fd, PAGE, 0) != b"m" * 100 + b"a" * 2000:
                    return True
            return False
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_appending_to_a_page_that_is_written_back(place):
    """What Linux 6.18's FUSE loses there (README, Limits), whoever serves it, is not ours to keep.

    Once no byte is lost any more, for as long as this tries, that limit has an end to be told.
    """
    flawed = place.kind != "plain" and kernel.loses_what_grows()
    assert _loses_what_is_appended(place.path, 60 if flawed else 1) == flawed
