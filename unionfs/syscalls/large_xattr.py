"""Reading an extended attribute with room for the largest at once.

``os.getxattr`` begins with a small buffer and asks a second time: for attributes that are made when
they are asked for, each asking counts. Apart from ``xattr``, which every mount imports, since it
takes ctypes.
"""

from __future__ import annotations

import ctypes

from unionfs.syscalls._libc import check, function

_MAX = 65536  # XATTR_SIZE_MAX, linux/limits.h

_getxattr = function(
    "getxattr",
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_void_p,
    ctypes.c_size_t,
    restype=ctypes.c_ssize_t,
)


def get(path: bytes, name: bytes) -> bytes:
    """Return the value of attribute *name* of the file *path*, in one system call.

    Raises OSError (ENODATA if there is none).
    """
    buffer = ctypes.create_string_buffer(_MAX)
    size = check(_getxattr(path, name, buffer, _MAX), path)
    return buffer.raw[:size]
