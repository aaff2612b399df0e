"""A mount that is told to leave while it is at work."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.support.stacks import File, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

SIZE = 4 << 20


@pytest.mark.parametrize("pure", ["", "1"])
def test_it_does_not_wait_for_the_copy_and_leaves_nothing_half_made(scratch, union, pure):
    layers = build_stack(scratch + b"/s", [[File(b"d/large", size=SIZE)]])
    begun = scratch + b"/begun"
    os.mkfifo(begun)
    env = {"UNIONFS_TEST_BEGUN": os.fsdecode(begun), "UNIONFS_PURE": pure}
    mounted = union(layers, program=[sys.executable, "-m", "tests.support.endless"], env=env)

    def change() -> int:
        fd = -1
        try:
            fd = os.open(mounted.root + b"/d/large", os.O_WRONLY)
            os.pwrite(fd, b"new", 0)
        except OSError as error:
            return error.errno
        finally:
            with suppress(OSError):  # nobody answers any more
                os.close(fd)
        return 0

    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(change)
        with open(begun, "rb") as fifo:
            fifo.read(1)
        mounted.process.send_signal(signal.SIGTERM)
        assert mounted.wait() == 0
        assert result.result() == errno.EIO
    assert os.listdir(layers.upper + b"/d") == []
    assert os.listdir(layers.work + b"/work") == []


@pytest.mark.parametrize("pure", ["", "1"])
def test_it_hears_the_signal_while_it_is_asked_all_the_time(scratch, union, pure):
    """Requests that need no Python, and come before it has slept long, do not keep it from that."""
    layers = build_stack(scratch + b"/s", [[File(b"d/file")]])
    mounted = union(layers, env={"UNIONFS_PURE": pure})
    over = threading.Event()

    def ask() -> None:
        for number in itertools.count():
            with suppress(OSError):
                os.lstat(mounted.root + b"/d/absent-%d" % number)
            if over.wait(0.0005):
                return

    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            pool.submit(ask)
        try:
            time.sleep(0.5)
            mounted.process.send_signal(signal.SIGTERM)
            start = time.monotonic()
            assert mounted.wait() == 0
            assert time.monotonic() - start < 5  # many times what it takes on a busy machine
        finally:
            over.set()


@pytest.mark.needs_extension
def test_it_hears_the_signal_while_python_is_asked_about_names_all_the_time(scratch, union):
    """Each is answered where it is read (_direct.c), and there is always another in the queue."""
    program = [sys.executable, "-m", "tests.support.slow"]
    mounted = union(build_stack(scratch + b"/s", [[File(b"file")]]), program=program)
    end = time.monotonic() + 15

    def ask(directory: bytes) -> None:
        os.mkdir(directory)
        while time.monotonic() < end:
            try:
                os.open(directory + b"/.wh.refused", os.O_CREAT | os.O_WRONLY)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    return

    with ThreadPoolExecutor(4) as pool:
        for number in range(4):
            pool.submit(ask, mounted.root + b"/%d" % number)
        time.sleep(0.5)
        mounted.process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        assert mounted.wait() == 0
        assert time.monotonic() - start < 5
