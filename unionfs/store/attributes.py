"""Copying what a directory is, beside what is in it: owner, mode, attributes, times."""

from __future__ import annotations

import os

from unionfs.ondisk.flavour import Flavour
from unionfs.syscalls import xattr


def copy_directory_attributes(source: int, target: int, flavour: Flavour) -> None:
    """Give the directory *target* the owner, attributes, mode and times of *source*.

    The driver's own marks (opaque, origin, …) say something about *source*'s place and stay
    behind. Raises OSError; changing the owner needs privilege.
    """
    st = os.fstat(source)
    there = os.fstat(target)
    if (there.st_uid, there.st_gid) != (st.st_uid, st.st_gid):
        os.fchown(target, st.st_uid, st.st_gid)
    for name, value in xattr.get_all(source).items():
        if flavour.from_disk(name) is not None:
            xattr.set_(target, name, value)
    os.fchmod(target, st.st_mode & 0o7777)  # after the ACL, which would change the group's bits
    os.utime(target, ns=(st.st_atime_ns, st.st_mtime_ns))


def same_attributes(one: int, other: int) -> bool:
    """Return whether two directories have the same owner, mode, modification time, attributes."""
    a, b = os.fstat(one), os.fstat(other)
    return (a.st_uid, a.st_gid, a.st_mode, a.st_mtime_ns) == (
        b.st_uid,
        b.st_gid,
        b.st_mode,
        b.st_mtime_ns,
    ) and xattr.get_all(one) == xattr.get_all(other)
