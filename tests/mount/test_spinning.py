"""Busy-polling for the next request: what it may cost."""

from __future__ import annotations

import json
import os
import time

import pytest

from tests.support.files import opened
from tests.support.stacks import File, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_extension]

SECONDS = 2.0
THINKS = 900e-6  # seconds between an answer and the next request
SHARE, SAVED = 0.75, 0.05  # of the time, and seconds that may be spun at once besides


def _spent(root: bytes) -> float:
    """Return for how many seconds the daemon has polled."""
    told = json.loads(os.getxattr(root, "user.unionfs.stats"))
    return float(told["busy_polling"]["spent_ns"]) / 1e9


@pytest.mark.default_mode
def test_not_all_of_the_time_is_spun(scratch, union):
    """By a client that asks just before the daemon would give up waiting for it, always."""
    root = union(build_stack(scratch + b"/s", [[File(b"f")]]), options=[b"spin=1000"]).root
    with opened(root + b"/f", os.O_RDONLY) as fd:
        before, began = _spent(root), time.monotonic()
        while time.monotonic() - began < SECONDS:
            os.isatty(fd)  # a request each time
            thought = time.monotonic()
            while time.monotonic() - thought < THINKS:
                pass
        spent, took = _spent(root) - before, time.monotonic() - began
    assert 0 < spent <= took * SHARE + SAVED
