"""Random operations on a few files against a model: files of the upper, of a layer, in between.

`make test` runs the same seeds each time; the full run starts from a random one, which a failure
names, and does a million operations on files of the upper, of a layer and copied up in the middle,
fewer on the rarer kinds. UNIONFS_TEST_SEED=N repeats a run.
"""

from __future__ import annotations

import itertools
import os
import random

import pytest

from tests.support.disks import Disk
from tests.support.examples import FULL
from tests.support.fsx import episode
from tests.support.fsx.episode import KINDS, Outcome, Plan
from tests.support.fsx.ops import READING, WRITING
from tests.support.mounts import UNION_OPTIONS, SessionMount

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

COUNT = 1_000_000 if FULL else 3_000  # operations of each kind of file
FEWER = 200_000 if FULL else 3_000  # of the kinds that are rare
COMMON = ("upper", "lower", "midway")
LENGTH = 4_000 if FULL else 500  # of one episode, after which the mount is a new one
SEED = int(os.environ.get("UNIONFS_TEST_SEED") or (random.randrange(10**9) if FULL else 1))
FEW = 64  # descriptors; a quarter of them is for files
ALLOCATING = {"allocate", "punch", "zero", "collapse", "insert"}
_number = itertools.count()


def _folder(arena: bytes) -> bytes:
    return arena + b"/fsx%d" % next(_number)


def _explain(plan: Plan, arena, mounter, ops, outcome: Outcome) -> str:
    """Return the report of a failure, with the shortest list of operations that repeats it."""

    def fails(part):
        return episode.run(_folder(arena), plan, part, mounter).failure

    failure = outcome.failure
    done = ops[: failure.at + 1]
    short = episode.shrink(done, fails)
    if len(short) == len(done):
        short = done[-30:]
    lines = [f"{failure.what}, at operation {failure.at} of {plan}", "shrunk to:"]
    return "\n  ".join([*lines, *map(repr, short)])


def _all_of(arena, mounter, kind: str, count: int, files: int = 3) -> dict[str, int]:
    """Run *count* operations on files of *kind*; return how often each was performed."""
    done: dict[str, int] = {}
    for number in range(count // LENGTH):
        plan = Plan(kind, SEED + number, LENGTH, files=max(files - number % 3, 1))
        ops = plan.operations()
        outcome = episode.run(_folder(arena), plan, ops, mounter)
        if outcome.failure is not None:
            pytest.fail(_explain(plan, arena, mounter, ops, outcome), pytrace=False)
        for name, times in outcome.done.items():
            done[name] = done.get(name, 0) + times
    return done


@pytest.mark.timeout(36_000 if FULL else 300)
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.needs_kernel_overlay if kind == "metacopy" else ())
        for kind in KINDS
    ],
)
def test_random_operations(arena, mount_union, kind):
    """Every byte that is read is the one last written, for every opener, at every moment."""
    count = COUNT if kind in COMMON else FEWER
    done = _all_of(arena, mount_union, kind, count)
    assert sum(done.values()) > count * 0.9
    assert not READING.keys() - done.keys()
    assert not WRITING.keys() - done.keys() - ALLOCATING


@pytest.mark.timeout(36_000 if FULL else 300)
@pytest.mark.parametrize("kind", ["lower", "removed"])
def test_more_files_than_the_daemon_keeps_open(arena, spawner, kind):
    """Its descriptors are closed and opened again all the time, before and after copy-ups."""

    def mounter(layers, target):
        return SessionMount(layers, target, spawner, descriptors=FEW)

    _all_of(arena, mounter, kind, FEWER // 2, files=FEW // 2)


@pytest.mark.timeout(36_000 if FULL else 300)
@pytest.mark.parametrize("kind", ["lower", "midway"])
def test_where_each_open_and_read_is_heard(arena, spawner, kind):
    """With ``record`` descriptors are the daemon's, and an open for writing copies up."""

    def mounter(layers, target):
        return SessionMount(layers, target, spawner, options=[*UNION_OPTIONS, b"record"])

    _all_of(arena, mounter, kind, FEWER // 2)


@pytest.mark.needs_loop
@pytest.mark.timeout(36_000 if FULL else 300)
@pytest.mark.parametrize("kind", COMMON)
def test_on_ext4(scratch, mount_union, mode, kind):
    """There fallocate(2) can everything. What moves data about FUSE refuses by itself."""
    with Disk(scratch + b"/disk", size=256 << 20) as disk:
        done = _all_of(disk.root, mount_union, kind, FEWER // 2)
    assert ALLOCATING - done.keys() == (ALLOCATING if mode == "pure" else {"collapse", "insert"})


def test_the_model_is_that_of_a_plain_directory(arena):
    for number, kind in enumerate(KINDS):
        plan = Plan(kind, SEED + number, 2_000)
        outcome = episode.on_directory(_folder(arena), plan, plan.operations())
        assert outcome.failure is None, (plan, outcome.failure)


def test_a_byte_that_changes_by_itself_is_found_and_shrunk(arena, mount_union, monkeypatch):
    """The test tested: something writes into the upper's file behind the mount's back."""
    from tests.support.fsx.exerciser import Exerciser

    plan = Plan("lower", 3, 300, files=1)

    def corrupt(self, subject, op):
        os.chmod(subject.names[0], 0o600)
        upper = os.path.dirname(os.path.dirname(os.path.dirname(subject.names[0]))) + b"/upper0"
        with open(upper + b"/d/f0", "r+b") as file:
            file.write(b"\xff" if subject.model[:1] != b"\xff" else b"\0")
        os.posix_fadvise(subject.fd(0), 0, 0, os.POSIX_FADV_DONTNEED)

    monkeypatch.setattr(Exerciser, "_names", corrupt)
    ops = plan.operations()
    assert any(op.kind == "names" for op in ops)
    outcome = episode.run(_folder(arena), plan, ops, mount_union)
    assert outcome.failure is not None

    def fails(part):
        return episode.run(_folder(arena), plan, part, mount_union).failure

    short = episode.shrink(ops[: outcome.failure.at + 1], fails)
    assert len(short) <= 4
    assert short[-1].kind == "names" or short[-2].kind == "names"
