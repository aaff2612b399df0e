"""Which libfuse is installed."""

from __future__ import annotations

import ctypes

_NAMES = ("libfuse3.so.3", "libfuse3.so.4")  # 3.17 changed the soname


def version() -> str | None:
    """Return the version of the machine's libfuse 3, None if it has none."""
    for name in _NAMES:
        try:
            pkgversion = ctypes.CDLL(name).fuse_pkgversion
        except (OSError, AttributeError):
            continue
        pkgversion.restype = ctypes.c_char_p
        text: bytes = pkgversion()
        return text.decode(errors="replace")
    return None
