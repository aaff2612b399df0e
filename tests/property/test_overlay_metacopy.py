"""Random operations beside a kernel's overlayfs that copies up without data (``metacopy=on``).

After a swap we mount what it wrote: metacopies with their data redirects, index, redirects, and
whiteouts as attributes in the layers; and it mounts what we made of that.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from tests.support.examples import LENGTH, TIMEOUT, common_settings, run_example
from tests.support.mounts import METACOPY_OPTIONS
from tests.support.strategies import operations, stacks

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_kernel_overlay]


@pytest.mark.timeout(TIMEOUT)
@settings(common_settings, max_examples=max(common_settings.max_examples // 4, 1))
@given(stack=stacks(links=True), ops=operations("swaps", length=LENGTH))
def test_what_the_kernel_wrote_is_read(arena, mount_union, stack, ops):
    run_example(arena, mount_union, stack, ops, METACOPY_OPTIONS)
