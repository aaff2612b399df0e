"""The same with owners, modes and types in an attribute, as fuse-overlayfs keeps them.

Every test of these modules again, with ``xattr_permissions=2``: the filesystem below then knows
nothing of what is shown.
"""

from __future__ import annotations

import pytest

from tests.mount.test_callers import *  # noqa: F403
from tests.mount.test_links import *  # noqa: F403
from tests.support.examples import FULL

if FULL:
    from tests.mount.test_coherence import *  # noqa: F403
    from tests.mount.test_directories import *  # noqa: F403

# The kernel knows nothing of the attribute, and its tree is another.
for _name, _test in list(globals().items()):
    if any(mark.name == "needs_kernel_overlay" for mark in getattr(_test, "pytestmark", ())):
        del globals()[_name]

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


@pytest.fixture(autouse=True)
def kept_in_an_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the option to every mount that this module's tests make."""
    monkeypatch.setenv("UNIONFS_TEST_OPTIONS", "xattr_permissions=2")
