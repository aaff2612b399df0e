"""Random calls of several processes on the same names: an order of single steps explains them.

So no acknowledged change is lost (the state at the end is one that all of them lead to), and nobody
saw an impossible state.
"""

from __future__ import annotations

import subprocess

import pytest

from tests.support.examples import FULL
from tests.support.fixtures import compared
from tests.support.linear import explained, show
from tests.support.stacks import build_stack
from tests.support.storm import look, populate, storm

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

ROUNDS = 5000 if FULL else 120
WORKERS = 4
LENGTH = 5


def _storm_and_check(root: bytes, states, seed: int, *, threads: bool = False) -> list[dict]:
    """Storm through the rounds below *root*; return what each one's directory shows then."""
    folders = [root + b"/%d" % number for number in range(len(states))]
    rounds = storm(folders, WORKERS, LENGTH, seed, threads=threads)
    shown = [look(folder) for folder in folders]
    for state, histories, after, folder in zip(states, rounds, shown, folders, strict=True):
        assert explained(state, histories, after), (
            f"no order explains {folder!r} (seed {seed})\nbefore: {state}\n"
            f"{show(histories)}\nafter: {after}"
        )
    return shown


def _look_again(root: bytes, shown: list[dict]) -> None:
    for number, before in enumerate(shown):
        assert look(root + b"/%d" % number) == before, f"round {number} looks otherwise"


@compared
@pytest.mark.parametrize("threads", [False, True], ids=["processes", "threads"])
@pytest.mark.parametrize("pure", [False, True], ids=["extension", "pure"])
def test_an_order_explains_everything(scratch, union, again, pure, threads):
    """And it is what is seen after a remount, and by the kernel's overlayfs."""
    entries, states = populate(ROUNDS, seed=ROUNDS)
    layers = build_stack(scratch + b"/s", entries)
    env = {"UNIONFS_PURE": "1"} if pure else {}
    mounted = union(layers, env=env)
    shown = _storm_and_check(mounted.root, states, 2 * pure + threads, threads=threads)
    mounted.unmount()
    mounted = union(layers, env=env)
    _look_again(mounted.root, shown)
    mounted.unmount()
    _look_again(again(layers).root, shown)


@pytest.mark.needs_kernel_overlay
def test_the_model_knows_what_a_plain_directory_does(scratch, overlay):
    """The same storm there: what the model calls impossible does not happen.

    (On the kernel's overlayfs it does: who writes to a lower file while it is removed may get
    EEXIST.)
    """
    entries, states = populate(ROUNDS, seed=ROUNDS)
    source = overlay(build_stack(scratch + b"/s", entries)).root
    subprocess.run(["cp", "-a", source + b"/.", scratch + b"/plain"], check=True)
    _storm_and_check(scratch + b"/plain", states, 4)
