"""Fixtures for modules whose tests run twice: with the C extension, and without it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.support.mounts import Mounted, SessionMount, Spawner
from tests.support.stacks import Layers

MODES = ["pure"] if os.environ.get("UNIONFS_PURE") == "1" else ["extension", "pure"]


@pytest.fixture(scope="module", params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """``extension`` or ``pure``."""
    return request.param


@pytest.fixture(scope="module")
def spawner(mode: str) -> Iterator[Spawner]:
    """The parent of daemons of this mode."""
    made = Spawner(env={"UNIONFS_PURE": "1" if mode == "pure" else ""})
    yield made
    made.close()


@pytest.fixture
def mount_union(spawner: Spawner) -> Callable[[Layers, bytes], Mounted]:
    """Mount layers in this mode, in the fastest way there is."""
    return lambda layers, target: SessionMount(layers, target, spawner)
