"""Comparing the content of two files."""

from __future__ import annotations

import os

_CHUNK = 1 << 20


def same_bytes(one: int, other: int) -> bool:
    """Return whether the files of these two descriptors have the same bytes, up to their ends.

    The descriptors' positions are neither used nor moved (pread(2)). Raises OSError.
    """
    offset = 0
    while True:
        data = os.pread(one, _CHUNK, offset)
        if data != os.pread(other, _CHUNK, offset):
            return False
        if not data:
            return True
        offset += len(data)
