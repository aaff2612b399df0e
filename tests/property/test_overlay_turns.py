"""Random turns of one upper: the kernel's overlayfs with random features, and we.

Each turn goes on with what another driver wrote (``tests.support.turns``).
"""

from __future__ import annotations

import itertools
import os
import subprocess

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.support.examples import COUNT, TIMEOUT, common_settings
from tests.support.strategies import operations, stacks
from tests.support.turns import History, Turn

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_kernel_overlay]

_number = itertools.count()
_small = settings(
    common_settings, max_examples=int(os.environ.get("UNIONFS_TEST_EXAMPLES", max(COUNT // 8, 1)))
)
_HANDLES_NOT = ("open", "close", "compare", "remount", "swap")


def _without_handles(ops):
    return [op for op in ops if not op.name.startswith("h") and op.name not in _HANDLES_NOT]


def _turns(*drivers: str, generations: bool) -> st.SearchStrategy[list[Turn]]:
    turn = st.builds(
        Turn,
        driver=st.sampled_from(drivers),
        ops=operations("everything", length=12).map(_without_handles),
        redirect=st.integers(0, 11),
        xino=st.integers(0, 2),
        uuid=st.integers(0, 2),
        index=st.booleans(),
        nfs_export=st.booleans(),
        volatile=st.booleans(),
        generation=st.sampled_from((False, False, True)) if generations else st.just(False),
    )
    return st.lists(turn, min_size=2, max_size=6)


@pytest.fixture
def run(arena, spawners, monkeypatch):
    pure = os.environ.get("UNIONFS_PURE", "")
    monkeypatch.setenv("UNIONFS_PURE", pure)

    def run(stack, turns, **how):
        folder = arena + b"/turns%d" % next(_number)
        os.umask(0o022)
        os.environ["UNIONFS_PURE"] = pure
        try:
            history = History(folder, stack, spawners, **how)
            try:
                history.run(turns)
            except BaseException:
                note("\n".join(history.done))
                raise
        finally:
            subprocess.run(["rm", "-rf", "--", folder], check=True)

    return run


_everyone = ("kernel", "kernel", "union", "pure")


@pytest.mark.timeout(TIMEOUT)
@_small
@given(stack=stacks(), turns=_turns(*_everyone, generations=False))
def test_one_upper(run, stack, turns):
    run(stack, turns)


@pytest.mark.timeout(TIMEOUT)
@_small
@given(stack=stacks(links=True), turns=_turns(*_everyone, generations=False))
def test_lowers_with_hard_links(run, stack, turns):
    run(stack, turns)


@pytest.mark.timeout(TIMEOUT)
@_small
@given(stack=stacks(), turns=_turns(*_everyone, generations=True))
def test_the_upper_becomes_a_lower(run, stack, turns):
    run(stack, turns)


@pytest.mark.timeout(TIMEOUT)
@_small
@given(stack=stacks(links=True), turns=_turns(*_everyone, generations=False))
def test_metacopy(run, stack, turns):
    run(stack, turns, metacopy=True)


@pytest.mark.timeout(TIMEOUT)
@_small
@given(stack=stacks(), turns=_turns(*_everyone, generations=False))
def test_user_attributes(run, stack, turns):
    """``userxattr``: the kernel has no redirects then, so we are asked for none."""
    run(stack, turns, userxattr=True)
