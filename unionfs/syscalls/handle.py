"""File handles: a file's identity that outlives its names (name_to_handle_at(2))."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import NamedTuple

from unionfs.syscalls._libc import check, function

_MAX_HANDLE = 128  # MAX_HANDLE_SZ, linux/exportfs.h
_AT_EMPTY_PATH = 0x1000
_TRIES = 100


class FileHandle(NamedTuple):
    """A handle as the filesystem encodes it: its *kind* and opaque *data*."""

    kind: int
    data: bytes


class _Raw(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint),
        ("kind", ctypes.c_int),
        ("data", ctypes.c_ubyte * _MAX_HANDLE),
    )


_name_to_handle_at = function(
    "name_to_handle_at",
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.POINTER(_Raw),
    ctypes.POINTER(ctypes.c_int),
    ctypes.c_int,
)
_open_by_handle_at = function("open_by_handle_at", ctypes.c_int, ctypes.POINTER(_Raw), ctypes.c_int)


def handle_of(dir_fd: int, name: bytes = b"") -> FileHandle:
    """Return the handle of *name* in *dir_fd*, or of *dir_fd* itself for an empty name.

    A symbolic link's own handle. Raises OSError (EOPNOTSUPP where the filesystem has none).
    """
    raw = _Raw(size=_MAX_HANDLE)
    mount_id = ctypes.c_int()
    flags = 0 if name else _AT_EMPTY_PATH
    check(_name_to_handle_at(dir_fd, name, ctypes.byref(raw), ctypes.byref(mount_id), flags), name)
    return FileHandle(raw.kind, bytes(raw.data[: raw.size]))


def open_handle(mount_fd: int, handle: FileHandle, flags: int = os.O_PATH) -> int:
    """Open the file of *handle* on the filesystem of *mount_fd*; needs CAP_DAC_READ_SEARCH.

    Raises OSError: ESTALE if the file is gone, EPERM without the capability. Gone is what has no
    name: the kernel still opens that while somebody else holds it, be it a sync of the disk.
    """
    fd = _open(mount_fd, handle, flags | os.O_CLOEXEC)
    try:
        if not os.fstat(fd).st_nlink:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    except OSError:
        os.close(fd)
        raise
    return fd


def _open(mount_fd: int, handle: FileHandle, flags: int) -> int:
    """Call open_by_handle_at(2), again for as long as a new file is being made with that number.

    Then Linux 6.18 answers ENOMEM (ext4_iget(), to which iget_locked() does not say why), and a
    moment later what is true: that the handle is another file's, which is gone.
    """
    raw = _Raw(size=len(handle.data), kind=handle.kind)
    ctypes.memmove(raw.data, handle.data, len(handle.data))
    for _ in range(_TRIES):
        try:
            return check(_open_by_handle_at(mount_fd, ctypes.byref(raw), flags))
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            os.sched_yield()
    return check(_open_by_handle_at(mount_fd, ctypes.byref(raw), flags))
