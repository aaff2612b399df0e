"""Carrying a file's owner, mode, attributes and times over to its copy."""

from __future__ import annotations

import errno
import os
import stat

from unionfs.ondisk.flavour import FUSE_OVERLAYFS_PREFIX, Flavour
from unionfs.syscalls import xattr

# A label of the source's that this process may not set on the copy is left to the copy's
# filesystem, as ovl_copy_xattr() does for security.* and for what an upper cannot keep.
_MAY_FAIL = frozenset((errno.EOPNOTSUPP, errno.EPERM))
_MUST_NOT_FAIL = (b"system.posix_acl_", b"security.capability")


def copy_xattrs(source: int | bytes, target: int | bytes, flavour: Flavour) -> None:
    """Copy all extended attributes but the driver's own from *source* to *target*.

    POSIX ACLs and capabilities go along as the attributes they are. Raises OSError; a copy that
    cannot keep an ACL, a capability or a user attribute fails rather than lose it silently.
    """
    for name, value in xattr.get_all(source).items():
        if flavour.from_disk(name) is None or name.startswith(FUSE_OVERLAYFS_PREFIX):
            continue
        try:
            xattr.set_(target, name, value)
        except OSError as error:
            if error.errno not in _MAY_FAIL or name.startswith(_MUST_NOT_FAIL):
                raise
            if name.startswith(b"user."):
                raise


def copy_to_fd(source: int | bytes, fd: int, st: os.stat_result, flavour: Flavour) -> None:
    """Give the file or directory *fd* the owner, attributes, mode and times of *st*.

    *source* is where the attributes come from. The order matters: changing the owner clears
    set-id bits and capabilities, so it comes first. Raises OSError.
    """
    mine = os.fstat(fd)
    if (mine.st_uid, mine.st_gid) != (st.st_uid, st.st_gid):
        os.fchown(fd, st.st_uid, st.st_gid)
    copy_xattrs(source, fd, flavour)
    os.fchmod(fd, stat.S_IMODE(st.st_mode))
    os.utime(fd, ns=(st.st_atime_ns, st.st_mtime_ns))
