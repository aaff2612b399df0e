"""Random calls by random callers, in a plain directory and in a mount, compared.

The tables beside this try what somebody thought of, each call for itself; here are sequences of
calls, on descriptors that were opened by others, by callers with any groups and capabilities. On
ext4, which both sides are on; the layers of other filesystems are not what this is about.

`make test` runs the same seeds each time; the full run starts from a random one. A failure prints
the smallest case found as an expression: put into PASTED, it is run again, first of all.
UNIONFS_TEST_SEED=N begins with that seed.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.anycalls.actor import Actor, Step
from tests.support.anycalls.callers import Who
from tests.support.anycalls.cases import Outcome, Way, perform, run_all, shrink
from tests.support.anycalls.steps import LENGTH, Case, Turn, as_text, some_case
from tests.support.anycalls.trees import Entry
from tests.support.disks import Disk
from tests.support.examples import FULL, TIMEOUT
from tests.support.mounts import UNION_OPTIONS, SessionMount, Spawner

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.needs_loop,
    pytest.mark.timeout(TIMEOUT),
]

COUNT = int(os.environ.get("UNIONFS_TEST_EXAMPLES") or (4_000 if FULL else 36))  # of each form
SEED = int(os.environ.get("UNIONFS_TEST_SEED") or (random.randrange(10**9) if FULL else 1))
_BATCH = 100  # cases that share a mount
_DISK = 256 << 20
# How the union is mounted: options, and whether the extension is left out.
_FORMS = {
    "default": ((), False),
    "kept owners": ((b"xattr_permissions=2",), False),
    "pure": ((), True),
}
_ALL_PURE = os.environ.get("UNIONFS_PURE") == "1"
_MOUNTED = "/merged/"  # in the names of our side
_ENOUGH = 10  # cases, in some of which there is a write(2)
_A_MODE = 0o1643  # that is nobody's
_number = itertools.count()

# What was found once, and whatever else is to be tried again.
PASTED = (
    # chgrp by the owner, who is in another group: set-group-ID without group execution goes
    Case(
        tree=(Entry("f", "lower", "file", 0o2604, 1000, 0),),
        turns=(Turn(Who(1000, 1000), ("chown", "f", -1, 1000)),),
    ),
    # CAP_CHOWN alone: EPERM where the new owner takes set-id bits
    Case(
        tree=(Entry("f", "lower", "file", 0o4755, 1000, 1000),),
        turns=(Turn(Who(1001, 1001, (), 1), ("chown", "f", 1001, -1)),),
    ),
    # root of a namespace of his own is shown no trusted attributes
    Case(
        tree=(Entry("f", "lower", "file", 0o644, 1000, 1000, (("trusted.t", b"v"),)),),
        turns=(Turn(Who(1000, 1000, (), 0, (0, 0)), ("os", "listxattr", "f")),),
    ),
)


@pytest.fixture(scope="module")
def place(arena: bytes) -> Iterator[str]:
    """A directory on ext4 that all may enter."""
    with Disk(arena + b"/any-calls", size=_DISK) as disk:
        os.chmod(disk.root, 0o755)
        yield os.fsdecode(disk.root)


@pytest.fixture(scope="module", params=[*_FORMS][: 2 if _ALL_PURE else 3])
def way(request: pytest.FixtureRequest, place: str) -> Iterator[Way]:
    options, pure = _FORMS[request.param]
    spawner = Spawner(env={"UNIONFS_PURE": "1"} if pure else {})
    yield Way(
        lambda layers, target: SessionMount(
            layers, target, spawner, options=[*UNION_OPTIONS, *options]
        ),
        pure=pure or _ALL_PURE,
    )
    spawner.close()


def _folder(place: str) -> str:
    return f"{place}/{next(_number)}"


def _again(place: str, way: Way) -> Callable[[Case], Outcome]:
    return lambda case: run_all(_folder(place), [case], way)[0]


def _report(seed: object, case: Case, outcome: Outcome, again: Callable[[Case], Outcome]) -> str:
    small, shown = shrink(case, outcome, again)
    return f"seed {seed}: {outcome}\nshrunk: {shown}\n{as_text(small)}"


def _check(place: str, way: Way, cases: list[tuple[object, Case]]) -> int:
    """Run them; return how many steps were made. The first that is wrong is shrunk and shown."""
    outcomes = run_all(_folder(place), [case for _, case in cases], way)
    for (seed, case), outcome in zip(cases, outcomes, strict=True):
        if outcome.wrong:
            pytest.fail(_report(seed, case, outcome, _again(place, way)), pytrace=False)
    return sum(outcome.done for outcome in outcomes)


def test_pasted(place, way):
    """What was found once."""
    _check(place, way, list(enumerate(PASTED)))


def test_as_in_a_plain_directory(place, way):
    done = 0
    for first in range(SEED, SEED + COUNT, _BATCH):
        seeds = range(first, min(first + _BATCH, SEED + COUNT))
        done += _check(place, way, [(seed, some_case(seed)) for seed in seeds])
    assert done > COUNT * LENGTH  # of three more: few end early, by a documented difference


def _is_ours(actor: Actor, step: Step) -> bool:
    return step[:2] == ("fd", "write") and _MOUNTED in actor.top and step[2] in actor.fds


def _a_wrong_answer(actor: Actor, who: Who, step: Step) -> Any:
    answer = perform(actor, who, step)
    return "EIO" if _is_ours(actor, step) else answer


def _a_wrong_effect(actor: Actor, who: Who, step: Step) -> Any:
    answer = perform(actor, who, step)
    if _is_ours(actor, step) and isinstance(answer, int):
        os.fchmod(actor.fds[step[2]], _A_MODE)
    return answer


@pytest.mark.parametrize("way", ["default"], indirect=True)
@pytest.mark.parametrize(
    ("wrong", "field"), [(_a_wrong_answer, "answer"), (_a_wrong_effect, "mode")]
)
def test_what_is_wrong_is_found_and_shrunk(place, way, wrong, field):
    """The test tested; and what it prints is the case."""
    way = way._replace(perform=wrong)
    cases = [some_case(seed) for seed in range(_ENOUGH)]
    found = [*zip(cases, run_all(_folder(place), cases, way), strict=True)]
    case, outcome = next(pair for pair in found if pair[1].wrong)
    small, shown = shrink(case, outcome, _again(place, way))
    assert shown.facets[0].field == field
    assert len(small.turns) <= 3 < len(case.turns)  # whatever else made the file, or opened it
    assert len(small.tree) <= 3 < len(case.tree)
    pasted = eval(as_text(small))
    assert pasted == small
    assert _again(place, way)(pasted).facets == shown.facets
