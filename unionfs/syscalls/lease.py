"""Who else has a file open: what fcntl(2) looks at before it gives a lease."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal

from unionfs.syscalls._libc import function

_setfsuid = function("setfsuid", ctypes.c_uint)


def is_used_elsewhere(fd: int) -> bool:
    """Return whether others than *fd* have its file open, or mapped. *fd* must be for writing too.

    False also where that cannot be found out: not every filesystem gives leases. Who has not
    CAP_LEASE, as in a container, gets them as the file's owner.
    """
    try:
        return _is_refused(fd)
    except PermissionError:
        before = _setfsuid(os.fstat(fd).st_uid)
        try:
            return _is_refused(fd)
        except PermissionError:
            return False
        finally:
            _setfsuid(before)


def _is_refused(fd: int) -> bool:
    """Return whether a lease is refused because of others. Raises PermissionError."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # ignored; SIGIO for a broken one would kill
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except PermissionError:
        raise
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False
