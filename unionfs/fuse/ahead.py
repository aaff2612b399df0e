"""How far the kernel reads ahead in a mount's files.

A FUSE mount starts with 128 KiB, and INIT can only lower that (fs/fuse/inode.c,
process_init_reply()). What sysfs takes afterwards can be more: each read is then one request of up
to a megabyte where there were eight. sysfs is open to root outside user namespaces only.
"""

from __future__ import annotations

import os

from unionfs.errors import UnavailableError
from unionfs.fuse import native
from unionfs.syscalls.mount import mounts_at

# Of 128 to 1,024 the first that was near the best in reading 256 MB; more would also be read
# around each page of a map that is touched (programs, libraries), and mostly for nothing.
_USUAL = 512  # KiB


def read_ahead(target: bytes, wanted: int | None) -> int:
    """Let the kernel read *wanted* KiB ahead in the mount on *target*, once it has said INIT.

    None: as much as usually pays, where that can be set; 0: as it does by itself. Returns how many
    were set, 0 for none. Raises UnavailableError where what was asked for cannot be set.
    """
    if wanted == 0:
        return 0
    fd = _open(target)
    if fd >= 0 and native.hooks is not None:
        kib = _USUAL if wanted is None else wanted
        native.hooks.write_after_init(fd, b"%d" % kib)
        return kib
    if wanted is not None:
        raise UnavailableError(
            f"option readahead={wanted}: takes root outside user namespaces, and the C extension"
        )
    return 0


def _open(target: bytes) -> int:
    """Return a descriptor of what sets it; -1: there is none for us."""
    entries = mounts_at(target)
    if not entries or not native.hooked():
        return -1
    try:
        place = f"/sys/class/bdi/{entries[-1].device}/read_ahead_kb"
        return os.open(place, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return -1
