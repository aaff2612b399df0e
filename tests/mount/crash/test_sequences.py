"""SIGKILL after every sequence of up to three changes, and in the middle of the last of them.

Each change was acknowledged, so the next mount (ours; the kernel's overlayfs) shows what a plain
directory has after the same changes. ``make test`` takes every single change and a part of the
longer sequences, always the same; the full run takes all.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import islice

import pytest

from tests.support import points
from tests.support.crash_sequences import (
    Plain,
    Sequence,
    apply,
    flattened,
    sequences,
)
from tests.support.crashes import Stage, dead, differing, without_directory_times
from tests.support.examples import FULL, TIMEOUT
from tests.support.points import Trap
from tests.support.trees import Tree

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.needs_ptrace,
    pytest.mark.needs_kernel_overlay,
    pytest.mark.timeout(TIMEOUT),
]

# Of so many sequences one is taken: primes, so that every change comes at every place.
EVERY = {1: 1, 2: 1 if FULL else 23, 3: 1 if FULL else 499}
EVERY_KILLED = 1 if FULL else 97


@pytest.fixture
def plain(scratch: bytes, lowers: tuple[bytes, ...]) -> Plain:
    return Plain(flattened(lowers, scratch + b"/original"), scratch + b"/plain")


@pytest.mark.parametrize("length", [1, 2, 3])
def test_acknowledged_changes_are_there(stage: Stage, plain: Plain, length: int):
    wrong = []
    for names in islice(sequences(length), 0, None, EVERY[length]):
        wrong += [f"{names}: {line}" for line in _after(stage, plain, names)]
        assert len(wrong) < 30, "\n".join(wrong)
    assert not wrong, "\n".join(wrong)


def _after(stage: Stage, plain: Plain, names: Sequence) -> Iterator[str]:
    """Yield what is wrong after the changes *names* and a SIGKILL."""
    expected_answers, expected = plain.after(names)
    stage.fresh()
    mounted = stage.mount()
    answers = apply(mounted.root, names)
    os.kill(mounted.pid, signal.SIGKILL)
    dead(mounted)
    if answers != expected_answers:
        yield f"answers {answers}, of a plain directory {expected_answers}"
    copy = stage.copy()
    ours = stage.ours()
    for line in differing(ours, expected, ()):
        yield f"ours / plain: {line}"
    for line in differing(ours, stage.kernels(copy), ()):
        yield f"ours / the kernel's: {line}"


def test_killed_in_the_last_of_two(stage: Stage, plain: Plain):
    """At each call that changes anything and is made for the second change."""
    wrong = []
    for names in islice(sequences(2), 0, None, EVERY_KILLED):
        if 0 in plain.after(names)[0][1:]:
            wrong += [f"{names}: {line}" for line in _killed_in(stage, plain, names)]
            assert len(wrong) < 30, "\n".join(wrong)
    assert not wrong, "\n".join(wrong)


def _killed_in(stage: Stage, plain: Plain, names: Sequence) -> Iterator[str]:
    before, after = plain.after(names[:-1])[1], plain.after(names)[1]
    number = 0
    while True:
        stage.fresh()
        mounted = stage.mount()
        apply(mounted.root, names[:-1])
        with Trap(mounted.pid, number, points.kill) as trap:
            apply(mounted.root, names[-1:])
        if trap.sprung is None:
            mounted.unmount()
            return
        dead(mounted)
        blur = without_directory_times if trap.sprung.name == "utimensat" else _as_is
        copy = stage.copy()
        for whose, seen in (("ours", stage.ours()), ("the kernel's", stage.kernels(copy))):
            old = differing(blur(seen), blur(before), ())
            new = differing(blur(seen), blur(after), ())
            if old and new:
                yield f"{trap}: {whose}: not before: {old}; not after: {new}"
        number += 1


def _as_is(tree: Tree) -> Tree:
    return tree
