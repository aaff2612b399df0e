"""What operations answer, in a form that does not depend on the tree they were done in."""

from __future__ import annotations

import hashlib
import os
import stat
import time

START_NS = time.time_ns() - 5_000_000_000


def stamp(ns: int) -> int | str:
    """Show a time of the past or the far future as it is, one made by these tests as "now"."""
    return "now" if START_NS < ns < START_NS + 86_400_000_000_000 else ns


STAT_FIELDS = ("mode", "uid", "gid", "size", "nlink", "mtime", "rdev")


def shown(st: os.stat_result) -> tuple:
    """Return what of *st* every filesystem must agree about."""
    is_dir = stat.S_ISDIR(st.st_mode)
    device = stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode)
    return (
        oct(st.st_mode),
        st.st_uid,
        st.st_gid,
        None if is_dir else st.st_size,
        None if is_dir else st.st_nlink,
        stamp(st.st_mtime_ns),
        st.st_rdev if device else 0,
    )


def digest(data: bytes) -> tuple[int, str]:
    return len(data), hashlib.sha256(data).hexdigest()[:12]


def pattern(fill: int, length: int) -> bytes:
    """Return *length* bytes that differ by position, so that shifted data is noticed."""
    return bytes((fill + at * 7 + (at >> 8)) & 0xFF for at in range(length))
