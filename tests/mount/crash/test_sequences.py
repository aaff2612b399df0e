"""SIGKILL after every sequence of up to three changes, and in the middle of the last of two.

Each change was acknowledged, so the next mount (ours; the kernel's overlayfs) shows what a plain
directory has after the same changes. Sequences are made side by side, each in a small tree of its
own in one mount; single ones also in its root. ``make test`` takes every sequence of one and two
changes and a part of those of three, always the same; the full run takes all 19,683. Where owners
are kept aside, which the kernel does not read, ``make test`` takes fewer.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from itertools import islice

import pytest

from tests.support import points
from tests.support.crash_cases import side_by_side
from tests.support.crash_sequences import (
    Plain,
    Sequence,
    apply,
    batches,
    flattened,
    sequences,
)
from tests.support.crashes import Stage, dead, differing, look, without_directory_times
from tests.support.examples import FULL, TIMEOUT
from tests.support.fixtures import COMPARED
from tests.support.mounts import SessionMount, Spawner
from tests.support.points import Trap
from tests.support.stacks import build_stack
from tests.support.trees import Tree
from unionfs.ondisk.override import ROOT_UNKNOWN

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.needs_ptrace,
    *COMPARED,
    pytest.mark.timeout(TIMEOUT),
]

# Of so many sequences one is taken: primes, so that every change comes at every place.
KEPT = "kept owners"
FORMS = ("root", KEPT)
EVERY = {
    ("root", 1): 1,
    ("root", 2): 3,
    ("root", 3): 61,
    (KEPT, 1): 5,
    (KEPT, 2): 13,
    (KEPT, 3): 487,
}
EVERY_KILLED = {"root": 97, KEPT: 401}
TOGETHER = 81


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def plain(scratch: bytes, lowers: tuple[bytes, ...], form: str) -> Plain:
    return Plain(_flattened(lowers, scratch, form), scratch + b"/plain")


@pytest.fixture
def stage(stage: Stage, form: str) -> Stage:
    return _as(form, stage)


def _as(form: str, stage: Stage) -> Stage:
    if form == KEPT:
        stage.as_a_users(form)
    return stage


def _some(form: str, length: int) -> Iterator[Sequence]:
    return islice(sequences(length), 0, None, 1 if FULL else EVERY[form, length])


def _flattened(layers: tuple[bytes, ...], scratch: bytes, form: str) -> bytes:
    """Return what the mount of a fresh upper shows, in a plain directory."""
    original = flattened(layers, scratch + b"/original")
    if form == KEPT:
        os.chmod(original, ROOT_UNKNOWN.mode)
    return original


def test_acknowledged_changes_are_there(stage: Stage, plain: Plain, form: str):
    wrong = []
    for names in _some(form, 1):
        expected_answers, expected = plain.after(names)
        stage.fresh()
        mounted = stage.mount()
        answers = [apply(mounted.root, names)]
        os.kill(mounted.pid, signal.SIGKILL)
        found = _wrong(stage, mounted, answers, [expected_answers], expected)
        wrong += [f"{names}: {line}" for line in found]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("length", [2, 3])
def test_side_by_side(scratch: bytes, spawner: Spawner, form: str, length: int):
    layers = build_stack(scratch + b"/l", side_by_side(TOGETHER), writable=False).lowers
    stage = _as(form, Stage(scratch + b"/stage", layers, spawner))
    original = _flattened(layers, scratch, form)
    plain = scratch + b"/plain"
    wrong: list[str] = []
    for batch in batches(_some(form, length), TOGETHER):
        subprocess.run(["rm", "-rf", "--", plain], check=True)
        subprocess.run(["cp", "-a", "--", original, plain], check=True)
        stage.fresh()
        mounted = stage.mount()
        answers = [apply(mounted.root + b"/t%d" % at, one) for at, one in enumerate(batch)]
        os.kill(mounted.pid, signal.SIGKILL)
        expected = [apply(plain + b"/t%d" % at, one) for at, one in enumerate(batch)]
        found = list(_wrong(stage, mounted, answers, expected, look(plain)))
        if found:
            wrong += ["of " + ", ".join(f"t{at} {one}" for at, one in enumerate(batch)), *found]
        assert len(wrong) < 30, "\n".join(wrong)
    assert not wrong, "\n".join(wrong)


def _wrong(
    stage: Stage,
    killed: SessionMount,
    answers: list[list[int]],
    expected_answers: list[list[int]],
    expected: Tree,
) -> Iterator[str]:
    """Yield what is wrong on the *stage* whose daemon was killed after changes."""
    dead(killed)
    for at, (ours, theirs) in enumerate(zip(answers, expected_answers, strict=True)):
        if ours != theirs:
            yield f"t{at}: answers {ours}, of a plain directory {theirs}"
    copy = stage.copy()
    seen = stage.ours()
    for line in differing(seen, expected, ()):
        yield f"ours / plain: {line}"
    for kernels in stage.kernels(copy):
        for line in differing(seen, kernels, ()):
            yield f"ours / the kernel's: {line}"


def test_killed_in_the_last_of_two(stage: Stage, plain: Plain, form: str):
    """At each call that changes anything and is made for the second change."""
    wrong = []
    for names in islice(sequences(2), 0, None, 1 if FULL else EVERY_KILLED[form]):
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
        shown = [("ours", stage.ours()), *(("the kernel's", one) for one in stage.kernels(copy))]
        for whose, seen in shown:
            old = differing(blur(seen), blur(before), ())
            new = differing(blur(seen), blur(after), ())
            if old and new:
                yield f"{trap}: {whose}: not before: {old}; not after: {new}"
        number += 1


def _as_is(tree: Tree) -> Tree:
    return tree
