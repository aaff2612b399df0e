"""Inode numbers: which generations they have."""

from __future__ import annotations

from unionfs.fuse import native
from unionfs.fuse.inodes import generation_after


def test_no_generation_is_one_that_the_extension_reads_something_in() -> None:
    """After 2**32 removals it would have been told of a file of a lower layer."""
    assert generation_after(native.NAME_ONLY) == native.NAME_ONLY + 1
    assert generation_after(native.LOWER - 2) == native.LOWER - 1
    assert generation_after(native.LOWER - 1) == native.NAME_ONLY + 1
