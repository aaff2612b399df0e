"""The C library through ctypes: one place for loading it and for turning -1 into OSError."""

from __future__ import annotations

import ctypes
import os
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, *names: bytes | str | int) -> int:
    """Return *result*, or raise OSError with the thread's errno when it is negative.

    *names* are the names the call was about; they become the error's file name.
    """
    if result < 0:
        number = ctypes.get_errno()
        shown = " -> ".join(os.fsdecode(n) if isinstance(n, bytes) else str(n) for n in names)
        raise OSError(number, os.strerror(number), shown or None)
    return result


def function(name: str, *argtypes: Any, restype: Any = ctypes.c_int) -> Any:
    """Return libc's function *name* with its prototype set.

    Raises AttributeError if the C library has no such symbol.
    """
    found = getattr(libc, name)
    found.argtypes = argtypes
    found.restype = restype
    return found
