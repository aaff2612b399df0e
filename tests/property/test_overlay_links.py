"""Random operations where lower layers have hard links: one file through all of its names.

Copying up one name must show under the others too, now and after a remount, which rests on the
kernel's index in ``work/index`` (DESIGN.md 2.3).
"""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.support.examples import LENGTH, TIMEOUT, common_settings, run_example
from tests.support.fixtures import COMPARED
from tests.support.strategies import operations, stacks

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, *COMPARED]


@pytest.mark.timeout(TIMEOUT)
@common_settings
@given(stack=stacks(links=True), ops=operations("everything", length=LENGTH))
def test_hard_links_of_lower_files(arena, mount_union, stack, ops):
    run_example(arena, mount_union, stack, ops)
