"""Copying the content of a file: reflink, else copy_file_range, else read and write; holes stay."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable

KeepGoing = Callable[[], bool]
"""Asked by a copy now and then, in its thread, whether it should go on."""

_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_CHUNK = 8 << 20
_UNSUPPORTED = frozenset(
    (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM)
)


def reflink(source: int, target: int) -> bool:
    """Make *target* share all of *source*'s data; return False where that cannot be done.

    Raises OSError for real failures (ENOSPC, EIO, EDQUOT).
    """
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True


def copy_range(source: int, target: int, offset: int, length: int) -> int:
    """Copy up to *length* bytes at *offset* to the same place; return the count, 0 at the end.

    copy_file_range(2) where both sides can, else pread and pwrite. Raises OSError.
    """
    try:
        return os.copy_file_range(source, target, length, offset, offset)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    data = os.pread(source, min(length, 1 << 20), offset)
    done = 0
    while done < len(data):
        done += os.pwrite(target, data[done:], offset + done)
    return done


def copy_data(
    source: int,
    target: int,
    size: int,
    *,
    sparse: bool = True,
    keep_going: KeepGoing | None = None,
) -> None:
    """Copy the first *size* bytes of *source* to the empty file *target*, holes kept.

    None are looked for where it is not *sparse*. *keep_going* is asked after every piece of 8 MiB;
    when it returns False the copy ends with ECANCELED. Raises OSError; the target is then
    incomplete and to be thrown away.
    """
    if size == 0:
        return
    if reflink(source, target):
        if os.fstat(target).st_size != size:
            os.ftruncate(target, size)
        return
    if sparse:
        os.ftruncate(target, size)
    offset = 0
    while offset < size:
        start, end = _next_data(source, offset, size) if sparse else (offset, size)
        offset = start
        while offset < end:
            done = copy_range(source, target, offset, min(end - offset, _CHUNK))
            if done == 0:
                os.ftruncate(target, size)  # shorter than its size said: the rest is a hole
                return
            offset += done
            if keep_going is not None and not keep_going():
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))


def _next_data(fd: int, offset: int, size: int) -> tuple[int, int]:
    """Return start and end of the next stretch of data from *offset*, at most *size*."""
    try:
        start = os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the end
            return size, size
        if error.errno == errno.EINVAL:  # the filesystem does not know about holes
            return offset, size
        raise
    return min(start, size), min(os.lseek(fd, start, os.SEEK_HOLE), size)
