"""Seeded random work by what is held, compared step by step with a plain directory.

Then the trees are compared, under a new mount as well, and under the next mounter of the same
directories: the kernel's overlayfs, or where that does not take all that we write, ours.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support import held, trees
from tests.support.examples import FULL
from tests.support.stacks import build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

SEEDS, STEPS = (200, 300) if FULL else (8, 100)
_FIELDS = [name for name in trees.FIELDS if name != "mtime"]
_NAMELESS = os.environ.get("UNIONFS_PURE") != "1"  # O_TMPFILE is of the extension


@contextmanager
def _holders(*roots: bytes) -> Iterator[list[held.Holder]]:
    found = [held.Holder(root) for root in roots]
    try:
        yield found
    finally:
        for holder in found:
            holder.close()


def _work(plain: bytes, root: bytes, rng: random.Random) -> None:
    """Do steps in both trees; fail with the steps so far at the first that answers differ."""
    done: list[held.Step] = []
    with _holders(plain, root) as (here, there):
        chooser = held.Chooser(rng, here, nameless=_NAMELESS)
        for _ in range(STEPS):
            done.append(chooser.step())
            expected = here.do(done[-1]), here.seen()
            assert (there.do(done[-1]), there.seen()) == expected, done
    _compare(plain, root)


def _compare(plain: bytes, root: bytes) -> None:
    seen = trees.snapshot(root)
    found = trees.differences(trees.snapshot(plain), seen, fields=_FIELDS)
    assert [*map(str, found), *seen.faults] == []


@pytest.mark.parametrize("seed", range(SEEDS))
def test_as_in_a_plain_directory(scratch, union, again, seed):
    rng = random.Random(seed)
    layers = build_stack(scratch + b"/s", held.layers())
    plain = scratch + b"/plain"
    os.mkdir(plain)
    for part in range(2):
        mounted = union(layers)
        if part == 0:
            subprocess.run(["cp", "-a", mounted.root + b"/.", plain], check=True)
        _work(plain, mounted.root, rng)
        mounted.unmount()
    _compare(plain, again(layers).root)
