"""POSIX ACLs as attributes hold them (linux/posix_acl_xattr.h), and what acl(5) does with them.

For layers in which no filesystem looks after them: what fs/posix_acl.c does is done here.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Collection, Sequence
from typing import NamedTuple

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"
ON_XFS = frozenset((b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT"))
"""The same once more, as XFS lists it and obeys it (fs/xfs/xfs_acl.h)."""

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_BASIC = frozenset((USER_OBJ, GROUP_OBJ, OTHER))
_VERSION = 2
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")


class Entry(NamedTuple):
    """One entry: its *tag*, its permissions (rwx, 0 to 7), the ID of a named user or group."""

    tag: int
    perm: int
    id: int


Acl = Sequence[Entry]


def decode(value: bytes) -> Acl:
    """Return the entries of an attribute's *value*. Raises OSError (EINVAL) for no ACL."""
    if len(value) < _HEADER.size or (len(value) - _HEADER.size) % _ENTRY.size:
        raise _invalid()
    if _HEADER.unpack_from(value)[0] != _VERSION:
        raise _invalid()
    entries = [Entry(*found) for found in _ENTRY.iter_unpack(value[_HEADER.size :])]
    tags = [entry.tag for entry in entries]
    if entries and not all(tags.count(tag) == 1 for tag in _BASIC):
        raise _invalid()
    return entries


def _invalid() -> OSError:
    return OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def encode(acl: Acl) -> bytes:
    """Return the attribute's value for *acl*."""
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in acl)


def is_extended(acl: Acl) -> bool:
    """Return whether *acl* says more than nine permission bits do."""
    return any(entry.tag not in _BASIC for entry in acl)


def mode_of(acl: Acl) -> int:
    """Return the nine permission bits that go with *acl*: the mask stands for the group."""
    perms = {entry.tag: entry.perm for entry in acl if entry.tag not in (USER, GROUP)}
    group = perms.get(MASK, perms.get(GROUP_OBJ, 0))
    return perms.get(USER_OBJ, 0) << 6 | group << 3 | perms.get(OTHER, 0)


def after_chmod(acl: Acl, mode: int) -> Acl:
    """Return *acl* after chmod(2) to *mode*: the group's bits go to the mask, if there is one."""
    group = MASK if any(entry.tag == MASK for entry in acl) else GROUP_OBJ
    bits = {USER_OBJ: mode >> 6 & 7, group: mode >> 3 & 7, OTHER: mode & 7}
    return [entry._replace(perm=bits.get(entry.tag, entry.perm)) for entry in acl]


def inherited(default: Acl, mode: int) -> tuple[Acl, int]:
    """Return the ACL and the mode of a new file asked for with *mode*, from its directory's.

    An entry may not say more than *mode* does (posix_acl_create_masq()).
    """
    allowed = mode_of(default) & mode
    return after_chmod(default, allowed), mode & ~0o777 | allowed


def permits(acl: Acl, owner: tuple[int, int], uid: int, groups: Collection[int], want: int) -> bool:
    """Return whether *acl* of a file of *owner* (user, group) gives a caller *want* (rwx bits).

    The algorithm of acl(5), "Access check".
    """
    perms = {entry.tag: entry.perm for entry in acl if entry.tag not in (USER, GROUP)}
    mask = perms.get(MASK, 7)
    if uid == owner[0]:
        return not want & ~perms.get(USER_OBJ, 0)
    for entry in acl:
        if entry.tag == USER and entry.id == uid:
            return not want & ~(entry.perm & mask)
    mine = [
        entry.perm
        for entry in acl
        if (entry.tag == GROUP_OBJ and owner[1] in groups)
        or (entry.tag == GROUP and entry.id in groups)
    ]
    if mine:
        return any(not want & ~(perm & mask) for perm in mine)
    return not want & ~perms.get(OTHER, 0)
