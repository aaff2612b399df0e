"""Making data safe before a rename, at the least cost that the filesystem allows.

What a power loss may not leave is a new name with old or no data behind it. fsync(2) before the
rename sees to that, and waits for the journal besides, which is most of its time. A filesystem that
journals metadata in order needs less: when the data has been written and the file's extents say so
before the rename is made, the journal cannot hold the rename without them. ext4 and XFS end the
writing of a page only after they have changed the extents (fs/ext4/page-io.c, ext4_end_bio();
fs/xfs/xfs_aops.c, xfs_end_ioend()), and their journals empty the disk's cache before they commit.
So there sync_file_range(2) will do. btrfs changes its extents later, and others are not known:
there it is fdatasync(2), as on ext4 without a journal.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

from unionfs.syscalls._libc import check, function

Settle = Callable[[int], None]
"""Returns when a rename of the file with this descriptor cannot be kept without its data."""

_EXT4, _XFS = 0xEF53, 0x58465342  # statfs(2); ext2 and ext3 have the number of ext4
_FUSE, _9P = 0x65735546, 0x01021997
_WRITE_AND_WAIT = 1 | 2 | 4  # SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE, _WAIT_AFTER

_sync_file_range = function(
    "sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint
)
_fstatfs = function("fstatfs", ctypes.c_int, ctypes.c_void_p)


def settle_on(fd: int) -> Settle:
    """Return how files on the filesystem of *fd* are settled; they raise OSError."""
    kind = _kind(fd)
    if kind == _XFS or (kind == _EXT4 and _has_journal(os.fstat(fd).st_dev)):
        return _write_out
    return _sync


def syncs_all(fd: int) -> bool:
    """Return whether syncfs(2) does on the filesystem of *fd* what an fsync of each file does.

    Who serves a FUSE or a 9p filesystem never hears of it: only writes reach him.
    """
    return _kind(fd) not in (_FUSE, _9P)


def _write_out(fd: int) -> None:
    check(_sync_file_range(fd, 0, 0, _WRITE_AND_WAIT))


def _sync(fd: int) -> None:
    os.fdatasync(fd)


def _kind(fd: int) -> int:
    room = (ctypes.c_long * 64)()  # struct statfs, which begins with f_type, and to spare
    check(_fstatfs(fd, ctypes.byref(room)))
    return int(room[0])


def _has_journal(device: int) -> bool:
    """Return whether the ext4 on *device* is known to have one: sysfs says "<none>", or a pid."""
    block = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"
    name = os.path.basename(os.path.realpath(block))
    try:
        with open(f"/sys/fs/ext4/{name}/journal_task", "rb") as file:
            return file.read().strip().isdigit()
    except OSError:
        return False
