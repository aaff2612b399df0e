"""Owners, modes and types that a filesystem cannot keep for us, kept in an attribute instead.

An ordinary user owns every file that he makes, and makes no device. What a file is to be shown as
is then written down beside it: ``UID:GID:MODE[:TYPE]`` (containers/storage, pkg/idtools), where the
mode is octal and TYPE ``file``, ``dir``, ``symlink``, ``pipe``, ``socket``, ``block-MAJOR-MINOR``
or ``char-MAJOR-MINOR``. What is no directory is a regular file on disk; that of a symbolic link
holds its target. The attribute on a layer's root says that the layer is to be read like this.

``security.*`` attributes and ACLs, which the same user cannot set or which would take the file from
him, get other names. (Those of ACLs are ours alone.)
"""

from __future__ import annotations

import enum
import errno
import os
import re
import stat
from typing import NamedTuple, cast

from unionfs.ondisk.flavour import OWN_PREFIX, Flavour, is_driver_name
from unionfs.syscalls import xattr
from unionfs.syscalls.at import proc_path

_TYPES = {
    stat.S_IFREG: b"file",
    stat.S_IFDIR: b"dir",
    stat.S_IFLNK: b"symlink",
    stat.S_IFIFO: b"pipe",
    stat.S_IFSOCK: b"socket",
}
_KINDS = {word: kind for kind, word in _TYPES.items()}
_DEVICES = {b"block": stat.S_IFBLK, b"char": stat.S_IFCHR}
_VALUE = re.compile(rb"(\d{1,10}):(\d{1,10}):([0-7]{1,12})(?::([^:]*))?(?::.*)?\0*", re.DOTALL)
_DEVICE = re.compile(rb"(block|char)-(\d{1,10})-(\d{1,10})")
_MAX_ID = 0xFFFFFFFE
_LINK_MAX = 4096
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_SECURITY = b"security."
_KEPT_SECURITY = b"user.containers.override_security."
_ACL = b"system.posix_acl_"
_KEPT_ACL = OWN_PREFIX + b"posix_acl_"


class Spelling(enum.Enum):
    """The attributes that have been used for this; a layer's root has at most one of them."""

    CONTAINERS = b"user.containers.override_stat"
    PRIVILEGED = b"security.fuseoverlayfs.override_stat"
    FUSE_OVERLAYFS = b"user.fuseoverlayfs.override_stat"


MARKS = frozenset(spelling.value for spelling in Spelling)

# What the option xattr_permissions calls them.
BY_NUMBER = {1: Spelling.PRIVILEGED, 2: Spelling.CONTAINERS}


class Override(NamedTuple):
    """What a file is to be shown as: owner, permission bits (octal, set-id and sticky included).

    ``kind`` is an ``S_IF*`` value, 0 where the attribute does not say; ``device`` the number of a
    device, else 0.
    """

    uid: int
    gid: int
    mode: int
    kind: int = 0
    device: int = 0

    def encode(self) -> bytes:
        """Return the attribute's value."""
        head = b"%d:%d:0%o" % (self.uid, self.gid, self.mode)
        return head if not self.kind else head + b":" + self._type()

    def _type(self) -> bytes:
        word = _TYPES.get(self.kind)
        if word is not None:
            return word
        word = b"block" if self.kind == stat.S_IFBLK else b"char"
        return b"%s-%d-%d" % (word, os.major(self.device), os.minor(self.device))


ROOT_UNKNOWN = Override(0, 0, 0o555)  # an upper's root, where no layer says more (fuse-overlayfs)


def decode(value: bytes) -> Override:
    """Return what *value* says. Raises OSError (EIO) for what nobody writes."""
    found = _VALUE.fullmatch(value)
    if found is None or max(int(found[1]), int(found[2])) > _MAX_ID:
        raise OSError(errno.EIO, f"not an owner and mode: {value[:80]!r}")
    mode = int(found[3], 8)
    kind, device = _type(found[4], value) if found[4] else (stat.S_IFMT(mode), 0)
    return Override(int(found[1]), int(found[2]), stat.S_IMODE(mode), kind, device)


def _type(word: bytes, value: bytes) -> tuple[int, int]:
    if word in _KINDS:
        return _KINDS[word], 0
    found = _DEVICE.fullmatch(word)
    if found is None:
        raise OSError(errno.EIO, f"not a type of file: {value[:80]!r}")
    return _DEVICES[found[1]], os.makedev(int(found[2]), int(found[3]))


def of(st: os.stat_result) -> Override:
    """Return the value that shows a file as *st* says it is."""
    kind = stat.S_IFMT(st.st_mode)
    device = st.st_rdev if kind in (stat.S_IFBLK, stat.S_IFCHR) else 0
    return Override(st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode), kind, device)


def applied(st: os.stat_result, value: Override) -> os.stat_result:
    """Return *st*, a file's own attributes, with what *value* says in their place.

    A directory stays one, and nothing else becomes one.
    """
    kind = stat.S_IFMT(st.st_mode)
    if kind == stat.S_IFREG and value.kind not in (0, stat.S_IFDIR):
        kind = value.kind
    first, more = cast("tuple[tuple[int, ...], dict[str, int]]", st.__reduce__()[1])
    changed = (kind | value.mode, *first[1:4], value.uid, value.gid, *first[6:])
    return os.stat_result(changed, {**more, "st_rdev": value.device} if value.device else more)


def read(target: int | bytes, spelling: Spelling) -> Override | None:
    """Return what the attribute of *target* says, None where there is none. Raises OSError."""
    value = xattr.get(target, spelling.value)
    return None if value is None else decode(value)


def write(target: int | bytes, spelling: Spelling, value: Override) -> None:
    """Write *value* down on *target*. Raises OSError."""
    xattr.set_(target, spelling.value, value.encode())


def make_stand_in(dir_fd: int, name: bytes, content: bytes = b"") -> None:
    """Make the regular file that stands for a link (*content* is its target) or a device.

    Raises OSError (FileExistsError).
    """
    fd = os.open(name, _CREATE, 0o600, dir_fd=dir_fd)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def link_target(dir_fd: int, name: bytes) -> bytes:
    """Return the target of the symbolic link *name*, or what stands for it. Raises OSError."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        return link_target_of(fd)
    finally:
        os.close(fd)


def link_target_of(fd: int) -> bytes:
    """Return the target of the symbolic link behind *fd* (O_PATH), a file or a link on disk.

    Raises OSError, EIO for a fifo, say, where an index has a link: nobody waits for that.
    """
    kind = stat.S_IFMT(os.fstat(fd).st_mode)
    if kind == stat.S_IFLNK:
        return os.readlink(b"", dir_fd=fd)
    if kind != stat.S_IFREG:
        raise OSError(errno.EIO, "something else has taken a symbolic link's place")
    file = os.open(proc_path(fd), os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(file, _LINK_MAX, 0)
    finally:
        os.close(file)


def kind_of(st: os.stat_result, target: int | bytes, spelling: Spelling | None) -> int:
    """Return the kind (``S_IF*``) that *target*, whose own attributes are *st*, is shown as."""
    kind = stat.S_IFMT(st.st_mode)
    if spelling is None or kind != stat.S_IFREG:
        return kind
    value = read(target, spelling)
    return kind if value is None else stat.S_IFMT(applied(st, value).st_mode)


def of_layer(root: int) -> Spelling | None:
    """Return how the layer whose root directory is *root* keeps owners; None: as files do."""
    found = set(xattr.names(root))
    return next((spelling for spelling in Spelling if spelling.value in found), None)


def of_store(flavour: Flavour) -> Spelling | None:
    """Return how the layers of a store keep owners: as files do where they can be given."""
    return Spelling.CONTAINERS if flavour is Flavour.USER else None


def disk_mode(kind: int, mode: int) -> int:
    """Return the permissions on disk of a file of *kind* that is shown with *mode* (octal).

    Its owner can always use it. The group is nobody that *mode* means, so it may what all may; and
    no set-id bit may work for the owner on disk.
    """
    others = mode & 0o007
    own = 0o700 if kind == stat.S_IFDIR else 0o600 | (mode & 0o100)
    return own | others << 3 | others


class OverrideNames:
    """The names of attributes in a layer that keeps owners in this way; as ``Flavour``'s."""

    def __init__(self, flavour: Flavour, spelling: Spelling) -> None:
        self._flavour = flavour
        self._moves_security = spelling is not Spelling.PRIVILEGED

    def to_disk(self, name: bytes) -> bytes:
        """Return the on-disk name for the attribute that a user of the mount calls *name*."""
        if name.startswith(_ACL):
            return _KEPT_ACL + name[len(_ACL) :]
        if self._moves_security and name.startswith(_SECURITY):
            return _KEPT_SECURITY + name[len(_SECURITY) :]
        return self._flavour.to_disk(name)

    def from_disk(self, name: bytes) -> bytes | None:
        """Return what a user of the mount calls the on-disk *name*; None for the driver's own."""
        if name.startswith(_KEPT_ACL):
            return _ACL + name[len(_KEPT_ACL) :]
        if name.startswith(_KEPT_SECURITY):
            return _SECURITY + name[len(_KEPT_SECURITY) :]
        if name.startswith(_ACL) or (self._moves_security and name.startswith(_SECURITY)):
            return None  # the disk's own, about files as they are there
        shown = self._flavour.from_disk(name)
        return None if shown == name and is_driver_name(name) else shown

    def is_reserved(self, name: bytes) -> bool:
        """Return whether no user of the mount may set *name*: the next mount would obey it."""
        return self._flavour.to_disk(name) == name and is_driver_name(name)


AttributeNames = Flavour | OverrideNames


def names_in(flavour: Flavour, spelling: Spelling | None) -> AttributeNames:
    """Return the names of attributes in a layer of *flavour* that keeps owners as *spelling*."""
    return flavour if spelling is None else OverrideNames(flavour, spelling)
