"""Maps of files that hold no descriptor, as of a program that closes what it has mapped.

Python's own keep a duplicate until they are closed.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


@contextmanager
def mapped(path: bytes, size: int) -> Iterator[memoryview]:
    """Map the first *size* bytes of *path* to be written, without having it open."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        at = _libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
    finally:
        os.close(fd)
    if at == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    try:
        yield memoryview((ctypes.c_char * size).from_address(at)).cast("B")
    finally:
        _libc.munmap(at, size)
