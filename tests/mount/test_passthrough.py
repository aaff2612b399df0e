"""`data=passthrough`: the kernel reads files by itself, and what that may not change."""

from __future__ import annotations

import mmap
import os
import signal
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.support import kernel
from tests.support.files import opened, read, refused
from tests.support.stacks import Dir, File, Layers, build_stack

PASSES = [  # of tests that need it
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.needs_extension,
    pytest.mark.skipif(kernel.release() < (6, 9), reason="FUSE_PASSTHROUGH came with Linux 6.9"),
]
pytestmark = PASSES

PASSING = [b"data=passthrough"]
BIG = b"0123456789abcdef" * 40_000


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Let the daemon answer nothing meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def open_files(pid: int) -> list[str]:
    """Return the files of layers and uppers that the daemon has open."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            path = os.readlink(f"/proc/{pid}/fd/{name}")
            regular = stat.S_ISREG(os.stat(f"/proc/{pid}/fd/{name}").st_mode)
        except FileNotFoundError:
            continue
        if regular and ("/upper" in path or "/lower" in path):
            found.append(path)
    return found


def are_closed(pid: int, seconds: float = 5) -> bool:
    """Wait until the daemon has heard of the last close(2), and let go of the file."""
    deadline = time.monotonic() + seconds
    while open_files(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


@pytest.fixture
def layers(scratch: bytes) -> Layers:
    made = build_stack(
        scratch + b"/s",
        [
            [File(b"big", fill=b"0123456789abcdef", size=len(BIG)), File(b"hidden", fill=b"old")],
            [Dir(b"d"), File(b"d/empty", size=0), File(b"hidden", fill=b"new")],
        ],
        writable=False,
    )
    os.link(made.lowers[-1] + b"/big", made.lowers[-1] + b"/second")
    return made


def test_an_open_file_is_read_without_the_daemon(layers, union):
    mounted = union(layers, options=PASSING)
    with opened(mounted.root + b"/big", os.O_RDONLY) as fd, stopped(mounted.pid):
        assert os.read(fd, len(BIG) + 1) == BIG
        assert os.pread(fd, 8, 16) == b"01234567"
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as memory:
            assert memory[:] == BIG


def test_without_the_option_it_takes_the_daemon(layers, union):
    """That the test above can fail."""
    mounted = union(layers)
    with opened(mounted.root + b"/big", os.O_RDONLY) as fd, ThreadPoolExecutor() as threads:
        with stopped(mounted.pid):
            reading = threads.submit(os.read, fd, len(BIG))
            with pytest.raises(TimeoutError):
                reading.result(timeout=0.3)
        assert reading.result() == BIG


def test_every_opener_and_every_name_reads_the_same(layers, union):
    root = union(layers, options=PASSING).root
    with opened(root + b"/big", os.O_RDONLY) as one, opened(root + b"/second", os.O_RDONLY) as two:
        assert os.read(one, 16) == os.read(two, 16) == BIG[:16]
        assert read(root + b"/big") == read(root + b"/second") == BIG
    assert read(root + b"/hidden")[:3] == b"new" and read(root + b"/d/empty") == b""
    assert os.listdir(root + b"/d") == [b"empty"]


def test_nothing_can_be_written(layers, union):
    root = union(layers, options=PASSING).root
    with refused(30):  # EROFS
        os.open(root + b"/big", os.O_RDWR)


def test_closed_files_are_closed_in_the_daemon(layers, union):
    mounted = union(layers, options=PASSING)
    descriptors = f"/proc/{mounted.pid}/fd"
    before = len(os.listdir(descriptors))
    for _ in range(50):
        assert read(mounted.root + b"/second") == BIG
    deadline = time.monotonic() + 5  # a release is sent after close(2) has returned
    while len(os.listdir(descriptors)) > before + 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(os.listdir(descriptors)) <= before + 3  # directories of layers are kept


def test_a_layer_that_the_kernel_cannot_take_is_read_as_ever(scratch, layers, union):
    """One on a stacked filesystem: two would be stacked on it, and it allows two in all."""
    place = scratch + b"/stacked"
    os.mkdir(place)
    lower = layers.lowers[-1] + b":" + layers.lowers[0]
    kernel.mount(b"overlay", place, b"overlay", 0, b"lowerdir=" + lower)
    try:
        root = union(Layers((place, layers.lowers[0])), options=PASSING).root
        with opened(root + b"/big", os.O_RDONLY) as fd:
            assert os.read(fd, len(BIG)) == BIG == read(root + b"/second")
    finally:
        kernel.umount(place, kernel.MNT_DETACH)


def test_the_kernels_overlayfs_goes_on_top(scratch, layers, union):
    root = union(layers, options=PASSING).root
    place = scratch + b"/top"
    os.mkdir(place)
    os.mkdir(scratch + b"/none")
    kernel.mount(b"overlay", place, b"overlay", 0, b"lowerdir=" + scratch + b"/none:" + root)
    try:
        assert read(place + b"/big") == BIG
    finally:
        kernel.umount(place)
