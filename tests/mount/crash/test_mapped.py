"""What was written through a mapping survives SIGKILL: after msync(2), and after close(2)."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Callable

import pytest

from tests.support.crashes import Stage, dead
from tests.support.files import opened, read

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

PLACES = (0, 3000, 5000, 94_000)  # of dir/sub/deep: its hole, and its data from 90,000 on


def _with_msync(path: bytes) -> None:
    with opened(path, os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
        for place in PLACES:
            mapped[place : place + 3] = b"MAP"
        mapped.flush()


def _with_close(path: bytes) -> None:
    with opened(path, os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
        for place in PLACES:
            mapped[place : place + 3] = b"MAP"


@pytest.mark.parametrize("change", [_with_msync, _with_close])
def test_mapped_writes(stage: Stage, change: Callable[[bytes], None]):
    stage.fresh()
    mounted = stage.mount()
    expected = bytearray(read(mounted.root + b"/dir/sub/deep"))
    for place in PLACES:
        expected[place : place + 3] = b"MAP"
    change(mounted.root + b"/dir/sub/deep")
    os.kill(mounted.pid, signal.SIGKILL)
    dead(mounted)
    with stage.mount() as again:
        assert read(again.root + b"/dir/sub/deep") == expected
