"""Random operations on random stacks: we answer as a local filesystem does.

Each example compares a plain directory, the kernel's overlayfs and our union step by step, and at
its end what each driver makes of what the other one wrote (``tests.support.overlay_example``). A
failing example is shown as a program to run by itself.

``make test-full`` (or ``UNIONFS_TEST_FULL=1``) runs a thousand of each, and longer ones.
"""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.support.examples import LENGTH, TIMEOUT, common_settings, run_example
from tests.support.fixtures import COMPARED
from tests.support.strategies import operations, stacks

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, *COMPARED]


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
