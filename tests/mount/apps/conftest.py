"""Programs run for real in the mount, on data that came with a lower layer."""

from __future__ import annotations

import pytest

from tests.support.fixtures import (  # noqa: F401
    arena,
    mount_union,
    overlay,
    scratch,
    spawners,
    union,
)


@pytest.fixture(params=["extension", "pure"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with the C extension, and again without it."""
    if request.param == "pure":
        monkeypatch.setenv("UNIONFS_PURE", "1")
    return request.param
