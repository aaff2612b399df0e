"""Which Linux this is (uname(2))."""

from __future__ import annotations

import os
import re


def kernel_release() -> tuple[int, int]:
    """Return the kernel's version and patch level: (6, 18) of "6.18.44-amd64"."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    assert found is not None  # Linux has been numbered so since its beginning
    return int(found[1]), int(found[2])
