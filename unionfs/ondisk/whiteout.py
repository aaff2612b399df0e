"""Whiteouts: a name that hides the same name in every layer below.

Three forms exist. The kernel's is a character device with number 0:0 (overlayfs.rst, "whiteouts and
opaque directories"); the kernel also reads an empty regular file with the ``whiteout`` attribute in
a directory marked ``opaque=x``; AUFS's is an empty file ``.wh.NAME`` beside the hidden name, with
``.wh..wh..opq`` for an opaque directory (image-spec layer.md, "Whiteouts").
"""

from __future__ import annotations

import os
import stat

from unionfs.syscalls import xattr

AUFS_PREFIX = b".wh."
AUFS_OPAQUE = b".wh..wh..opq"
AUFS_META = b".wh..wh."  # AUFS's own housekeeping names (.wh..wh.plnk, .wh..wh.aufs)
WHITEOUT_DEVICE = os.makedev(0, 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def is_whiteout(st: os.stat_result) -> bool:
    """Return whether *st* is that of the kernel's whiteout: a character device 0:0."""
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == WHITEOUT_DEVICE


def make_whiteout(dir_fd: int, name: bytes) -> None:
    """Make a whiteout *name* in *dir_fd*. Raises OSError (FileExistsError).

    Unprivileged users may make this one device since Linux 5.8.
    """
    os.mknod(name, stat.S_IFCHR, WHITEOUT_DEVICE, dir_fd=dir_fd)


def make_whiteout_file(dir_fd: int, name: bytes, mark: bytes) -> None:
    """Make a whiteout *name* in *dir_fd* as an empty file with the attribute *mark*.

    For where no device can be made (a directory on the kernel's overlayfs, say). It counts as one
    only in a directory marked ``opaque=x``, of a layer whose root is marked so too. It shows as a
    file until it has the attribute. Raises OSError (FileExistsError).
    """
    fd = os.open(name, _CREATE, 0o600, dir_fd=dir_fd)
    try:
        xattr.set_(fd, mark, b"y")
    except BaseException:
        os.unlink(name, dir_fd=dir_fd)
        raise
    finally:
        os.close(fd)


def is_whiteout_file(st: os.stat_result, target: bytes, mark: bytes) -> bool:
    """Return whether *target*, whose attributes are *st*, is a file that *mark* makes a whiteout.

    If its directory is marked for that. Raises OSError.
    """
    return stat.S_ISREG(st.st_mode) and not st.st_size and xattr.get(target, mark) is not None


def share_whiteout(from_fd: int, whiteout: bytes, dir_fd: int, name: bytes) -> None:
    """Make *name* in *dir_fd* another link of an existing *whiteout*, as the kernel does.

    One inode serves all whiteouts of a work directory. Raises OSError (EMLINK when it is full).
    """
    os.link(whiteout, name, src_dir_fd=from_fd, dst_dir_fd=dir_fd, follow_symlinks=False)
