"""Who else has a file open: what fcntl(2) looks at before it gives a lease."""

from __future__ import annotations

import errno
import fcntl
import signal


def is_used_elsewhere(fd: int) -> bool:
    """Return whether others than *fd* have its file open, or mapped. *fd* must be for writing too.

    False also where that cannot be found out: not every filesystem gives leases.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # ignored; SIGIO for a broken one would kill
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno != errno.EINVAL
    return False
