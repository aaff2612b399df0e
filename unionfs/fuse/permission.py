"""Who asks, and what a file's owner, mode and ACL let him do (path_resolution(7), acl(5))."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection
from typing import NamedTuple

from pyfuse3 import EntryAttributes, RequestContext

from unionfs.ondisk import acl
from unionfs.syscalls.capability import other_groups

READ, WRITE, SEARCH = 4, 2, 1  # the bits of a mode; SEARCH is execution of what is no directory


class Caller(NamedTuple):
    """A caller that is not root: user ID, and all group IDs."""

    uid: int
    groups: Collection[int]


def caller(ctx: RequestContext) -> Caller:
    """Return who sent a request, with the supplementary groups that his process has now.

    Of one that has ended or is in a PID namespace of its own only the group in the request counts.
    """
    try:
        more = other_groups(ctx.pid) if ctx.pid else frozenset()
    except OSError:
        more = frozenset()
    return Caller(ctx.uid, {ctx.gid, *more})


def may(who: Caller, attr: EntryAttributes, access_acl: bytes | None, want: int) -> bool:
    """Return whether *who* has *want* (READ, WRITE, SEARCH) on a file with *attr* and this ACL.

    Which is not asked where its mask, the mode's bits of the group, leaves nobody anything.
    """
    if access_acl is not None and attr.st_mode & stat.S_IRWXG:
        owner = (attr.st_uid, attr.st_gid)
        return acl.permits(acl.decode(access_acl), owner, who.uid, who.groups, want)
    if who.uid == attr.st_uid:
        bits = attr.st_mode >> 6
    elif attr.st_gid in who.groups:
        bits = attr.st_mode >> 3
    else:
        bits = attr.st_mode
    return not want & ~bits


def links_are_protected() -> bool:
    """Return whether nobody is to give files of others, which he may not write, further names."""
    try:
        with open("/proc/sys/fs/protected_hardlinks", "rb") as file:
            return file.read() != b"0\n"
    except OSError:
        return True


def denied() -> OSError:
    """Return the error for what permission bits or an ACL do not allow."""
    return OSError(errno.EACCES, os.strerror(errno.EACCES))


def not_permitted() -> OSError:
    """Return the error for what only a file's owner, or root, may do."""
    return OSError(errno.EPERM, os.strerror(errno.EPERM))
