"""Mounts that show other owners than the disk has: ``uidmapping=``, ``squash_to_root`` and others.

The translation is made where requests come in and answers go out, and nowhere else: all that
``union`` and ``upper`` see are the IDs on disk, so a copy-up keeps them. The kernel checks
permissions by what is shown.

* ``uidmapping=C:H:S``: C + n on disk is shown as H + n, and what no range has as the overflow ID.
  To give a file to who is in no range is EOVERFLOW, as in idmapped mounts; but he may make one,
  which is the overflow ID's on disk, as in fuse-overlayfs: engines make files in a container's tree
  as the host's root.
* ``squash_to_uid=H``: all are shown as H. On disk is who made the file or was given it, if this
  process can do that; else it is this process's own. It counts before ``squash_to_root``, and both
  before the map in what is shown.

IDs in ACLs are translated as well; those inside of other attributes (``security.capability`` of a
user namespace) are not.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from pyfuse3 import EntryAttributes

from unionfs.ondisk import acl
from unionfs.options import IdRange, MountConfig
from unionfs.syscalls.idmap import overflow_ids
from unionfs.upper.attributes import IsMember
from unionfs.upper.create import Owner

_ACLS = (acl.ACCESS, acl.DEFAULT)
_LEAVE = -1


class Ids:
    """The translation of one kind of ID: users' or groups'.

    ``squashed``: what all are shown as, None: as *ranges* say (none: as they are). *overflow* is
    what stands for an ID that no range has.
    """

    __slots__ = ("_overflow", "_ranges", "squashed")

    def __init__(self, ranges: Sequence[IdRange], squashed: int | None, overflow: int) -> None:
        self._ranges = ranges
        self.squashed = squashed
        self._overflow = overflow

    def shown(self, disk: int) -> int:
        """Return what the ID *disk* is shown as."""
        if self.squashed is not None:
            return self.squashed
        if not self._ranges:
            return disk
        for first, shown, size in self._ranges:
            if first <= disk < first + size:
                return shown + disk - first
        return self._overflow

    def kept(self, shown: int) -> int | None:
        """Return the ID on disk of what is called *shown* in the mount, None if there is none."""
        if not self._ranges:
            return shown
        for disk, first, size in self._ranges:
            if first <= shown < first + size:
                return disk + shown - first
        return None

    def maker(self, shown: int) -> int:
        """Return the ID on disk of a file that *shown* makes."""
        kept = self.kept(shown)
        return self._overflow if kept is None else kept

    def changed(self, shown: int) -> int:
        """Return the ID to set for *shown*; -1 stays -1. Raises OSError (EOVERFLOW)."""
        if shown == _LEAVE:
            return _LEAVE
        kept = self.kept(shown)
        if kept is None:
            raise OSError(errno.EOVERFLOW, os.strerror(errno.EOVERFLOW))
        return kept


class Owners:
    """The translation of one mount's owners.

    *own* is who new files of a squashed kind of ID belong to on disk where this process can give
    no others to them (``gives_owners``).
    """

    def __init__(self, users: Ids, groups: Ids, own: Owner, *, gives_owners: bool) -> None:
        self._users = users
        self._groups = groups
        self._own = own
        self._fixed_user = users.squashed is not None and not gives_owners
        self._fixed_group = groups.squashed is not None and not gives_owners

    def show(self, attr: EntryAttributes) -> None:
        """Put what is shown into *attr*, which has the IDs on disk."""
        attr.st_uid = self._users.shown(attr.st_uid)
        attr.st_gid = self._groups.shown(attr.st_gid)

    def maker(self, owner: Owner) -> Owner:
        """Return who a file is to belong to on disk that *owner* makes in the mount."""
        return Owner(
            self._own.uid if self._fixed_user else self._users.maker(owner.uid),
            self._own.gid if self._fixed_group else self._groups.maker(owner.gid),
        )

    def changed(self, uid: int, gid: int) -> tuple[int, int]:
        """Return the owner and group to set on disk for those that are asked for; -1 leaves one.

        Raises OSError: EOVERFLOW for one that has no place there.
        """
        return (
            _LEAVE if self._fixed_user else self._users.changed(uid),
            _LEAVE if self._fixed_group else self._groups.changed(gid),
        )

    def member(self, is_member: IsMember | None) -> IsMember | None:
        """Return *is_member*, which knows owners as the mount shows them, for those on disk."""
        if is_member is None:
            return None
        return lambda uid, gid: is_member(self._users.shown(uid), self._groups.shown(gid))

    def shown_value(self, name: bytes, value: bytes) -> bytes:
        """Return *value* of the attribute *name*, as on disk, as it is shown. Raises OSError."""
        return _translated(name, value, self._users.shown, self._groups.shown)

    def kept_value(self, name: bytes, value: bytes) -> bytes:
        """Return *value* for the attribute *name*, as asked for, as it goes to the disk.

        Raises OSError: EOVERFLOW as ``changed``, EINVAL for no ACL.
        """
        return _translated(name, value, self._users.changed, self._groups.changed)


def _translated(
    name: bytes, value: bytes, user: Callable[[int], int], group: Callable[[int], int]
) -> bytes:
    if name not in _ACLS:
        return value
    translate = {acl.USER: user, acl.GROUP: group}
    entries = acl.decode(value)
    return acl.encode(
        [e._replace(id=translate[e.tag](e.id)) if e.tag in translate else e for e in entries]
    )


def owners_of(config: MountConfig, own: Owner, *, gives_owners: bool) -> Owners | None:
    """Return the translation that *config* asks for, None for none; the rest as ``Owners``."""
    if not (config.uid_map or config.gid_map or squashes(config)):
        return None
    root = 0 if config.squash_to_root else None
    uid, gid = config.squash_to_uid, config.squash_to_gid
    overflow_uid, overflow_gid = overflow_ids()
    users = Ids(config.uid_map, root if uid is None else uid, overflow_uid)
    groups = Ids(config.gid_map, root if gid is None else gid, overflow_gid)
    return Owners(users, groups, own, gives_owners=gives_owners)


def squashes(config: MountConfig) -> bool:
    """Return whether *config* shows all users, or all groups, as one."""
    squashed = config.squash_to_uid, config.squash_to_gid
    return config.squash_to_root or squashed != (None, None)
