from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.crash_cases import STACK
from tests.support.crashes import Stage
from tests.support.fixtures import arena, scratch  # noqa: F401
from tests.support.mounts import Spawner
from tests.support.stacks import build_stack


@pytest.fixture(scope="session")
def spawner() -> Iterator[Spawner]:
    spawner = Spawner()
    yield spawner
    spawner.close()


@pytest.fixture(scope="session")
def lowers(arena: bytes) -> tuple[bytes, ...]:  # noqa: F811
    """The layers of all trials: the inode numbers that they give are the same for each."""
    return build_stack(arena + b"/crash-layers", STACK, writable=False).lowers


@pytest.fixture
def stage(scratch: bytes, lowers: tuple[bytes, ...], spawner: Spawner) -> Stage:  # noqa: F811
    return Stage(scratch + b"/stage", lowers, spawner)
