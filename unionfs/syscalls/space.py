"""Allocating, punching and zeroing ranges of a file: fallocate(2), which ``os`` only emulates."""

from __future__ import annotations

import ctypes

from unionfs.syscalls._libc import check, function

_fallocate = function("fallocate", ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Change the space of *length* bytes at *offset* of the file *fd* as fallocate(2) says.

    *mode* are the ``FALLOC_FL_*`` flags; 0 allocates. Raises OSError.
    """
    check(_fallocate(fd, mode, offset, length))
