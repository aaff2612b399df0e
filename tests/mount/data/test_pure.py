"""The same without the C extension: with OPEN, RELEASE and READ as requests."""

from __future__ import annotations

import pytest

from tests.mount.data.test_fsx import *  # noqa: F403
from tests.support.mounts import SessionMount, Spawner

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


@pytest.fixture(autouse=True)
def without_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the extension out of every daemon that this module's tests start."""
    monkeypatch.setenv("UNIONFS_PURE", "1")


@pytest.fixture
def mount_union(without_extension: None):
    """Mount by fork of a process that has no extension."""
    spawner = Spawner()
    yield lambda layers, target: SessionMount(layers, target, spawner)
    spawner.close()
