"""A mount that is told to leave while a large file is being copied up."""

from __future__ import annotations

import errno
import os
import signal
import sys
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
