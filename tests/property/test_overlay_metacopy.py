"""Random operations beside a kernel's overlayfs that copies up without data (``metacopy=on``).

After a swap we mount what it wrote: metacopies with their data redirects, index, redirects, and
whiteouts as attributes in the layers; and it mounts what we made of that.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings

from tests.support.examples import LENGTH, TIMEOUT, common_settings, run_example
from tests.support.mounts import METACOPY_OPTIONS
from tests.support.ops import Op
from tests.support.stacks import File
from tests.support.strategies import operations, stacks

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_kernel_overlay]

# Linked as a metacopy, which needs a redirect that is longer than the kernel allows.
_FAR_DOWN = b"b/" + b"n" * 255


@pytest.mark.timeout(TIMEOUT)
@settings(common_settings, max_examples=max(common_settings.max_examples // 4, 1))
@given(stack=stacks(links=True), ops=operations("swaps", length=LENGTH))
@example(stack=((File(_FAR_DOWN, b"x", 0),),), ops=[Op("link", (_FAR_DOWN, b"a"))])
def test_what_the_kernel_wrote_is_read(arena, mount_union, stack, ops):
    run_example(arena, mount_union, stack, ops, METACOPY_OPTIONS)
