"""Random operations where the lowers have a merged index: what shows is the same.

Lowers that carry redirects can have none; those examples run without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings

from tests.support.examples import LENGTH, TIMEOUT, common_settings, run_example
from tests.support.fixtures import COMPARED
from tests.support.mounts import Mounted, SessionMount, Spawner
from tests.support.stacks import Layers
from tests.support.strategies import operations, stacks

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, *COMPARED]


@pytest.fixture(scope="module")
def mount_indexed() -> Iterator[Callable[[Layers, bytes], Mounted]]:
    spawner = Spawner()
    yield lambda layers, target: SessionMount(layers, target, spawner, indexed=True)
    spawner.close()


@pytest.mark.timeout(TIMEOUT)
@settings(common_settings, max_examples=max(common_settings.max_examples // 4, 1))
@given(stack=stacks(links=True), ops=operations("everything", length=LENGTH))
def test_as_a_local_filesystem(arena, mount_indexed, stack, ops):
    run_example(arena, mount_indexed, stack, ops)


@pytest.mark.timeout(TIMEOUT)
@settings(common_settings, max_examples=max(common_settings.max_examples // 4, 1))
@given(stack=stacks(), ops=operations("names", length=LENGTH))
def test_names_and_directories(arena, mount_indexed, stack, ops):
    run_example(arena, mount_indexed, stack, ops)


@pytest.mark.timeout(TIMEOUT)
@settings(common_settings, max_examples=max(common_settings.max_examples // 4, 1))
@given(stack=stacks(links=True), ops=operations("forgetting", length=LENGTH))
def test_what_is_forgotten_in_between(arena, mount_indexed, stack, ops):
    run_example(arena, mount_indexed, stack, ops)
