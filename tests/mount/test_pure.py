"""The same without the C extension: what a machine without a compiler has.

Every test of these modules again, with the extension left out.
"""

from __future__ import annotations

import pytest

from tests.mount.test_callers import *  # noqa: F403
from tests.mount.test_coherence import *  # noqa: F403
from tests.mount.test_directories import *  # noqa: F403
from tests.mount.test_links import *  # noqa: F403

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


@pytest.fixture(autouse=True)
def without_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the extension out of every daemon that this module's tests start."""
    monkeypatch.setenv("UNIONFS_PURE", "1")
