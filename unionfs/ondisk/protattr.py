"""The mark ``overlay.protattr``: that a file in an upper is immutable or append-only.

The inode itself cannot be, or nothing could be marked, linked and renamed there. So the mark stands
for it, one letter for each flag (fs/overlayfs/inode.c, ovl_set_protattr()).
"""

from __future__ import annotations

from unionfs.syscalls.flags import APPEND, IMMUTABLE

_LETTERS = ((ord("a"), APPEND), (ord("i"), IMMUTABLE))  # in the kernel's order


def encode(protection: int) -> bytes:
    """Return the mark for IMMUTABLE, APPEND or both; empty for none, which is no mark."""
    return bytes(letter for letter, flag in _LETTERS if protection & flag)


def decode(value: bytes | None) -> int:
    """Return the flags that the mark *value* (None: there is none) stands for.

    A letter that is unknown makes all of it void, as ovl_check_protattr() has it.
    """
    known = dict(_LETTERS)
    found = 0
    for letter in value or b"":
        if letter not in known:
            return 0
        found |= known[letter]
    return found
