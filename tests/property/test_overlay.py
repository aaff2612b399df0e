"""Random operations on random stacks: we answer as a local filesystem does.

Each example compares a plain directory, the kernel's overlayfs and our union step by step, and at
its end what each driver makes of what the other one wrote (``tests.support.overlay_run``). A
failing example is shown as a program to run by itself.

``UNIONFS_TEST_FULL=1`` runs a hundred times as many examples, with longer sequences.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, note, settings

from tests.support import machine, overlay_run, parity
from tests.support.strategies import operations, stacks

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_kernel_overlay]

EXAMPLES = int(__import__("os").environ.get("EX","100"))
LENGTH = 40 if machine.FULL else 20
TIMEOUT = 36_000 if machine.FULL else 600
_number = itertools.count()
common_settings = settings(
    max_examples=EXAMPLES,
    deadline=None,
    print_blob=False,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def run_example(arena, mount_union, stack, ops) -> None:
    folder = arena + b"/x%d" % next(_number)
    overlay_run.run(folder, stack, ops, mount_union, parity.load(), say=note)


def _sequence(about: str):
    return operations(about, length=LENGTH)


@pytest.mark.timeout(TIMEOUT)
@common_settings
@given(stack=stacks(), ops=_sequence("everything"))
def test_as_a_local_filesystem(arena, mount_union, stack, ops):
    run_example(arena, mount_union, stack, ops)


@pytest.mark.timeout(TIMEOUT)
@common_settings
@given(stack=stacks(), ops=_sequence("names"))
def test_names_and_directories(arena, mount_union, stack, ops):
    """Mostly renames of directories, and removing and making them again."""
    run_example(arena, mount_union, stack, ops)


@pytest.mark.timeout(TIMEOUT)
@common_settings
@given(stack=stacks(), ops=_sequence("generations"))
def test_over_generations_of_layers(arena, mount_union, stack, ops):
    """An upper that becomes a lower brings its redirects, opaque marks and origins with it."""
    run_example(arena, mount_union, stack, ops)
