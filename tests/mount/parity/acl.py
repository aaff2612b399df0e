"""POSIX ACLs: set, obeyed, inherited, and what they do to modes."""

import os
import struct

from tests.support.callers import EVERYBODY, MEMBER, OTHER, OWNER, ROOT
from tests.support.calls import case
from tests.support.rawcalls import chown, faccessat2
from tests.support.things import Folder, nothing, one

_ACCESS, _DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32


def acl(*entries: tuple[int, int, int], version: int = 2) -> bytes:
    """Return an ACL of (tag, permissions, ID) as linux/posix_acl_xattr.h has it."""
    words = b"".join(struct.pack("<HHI", tag, perm, who % 2**32) for tag, perm, who in entries)
    return struct.pack("<I", version) + words


def rich(user: int = 7, group: int = 5, mask: int = 7, other: int = 0) -> bytes:
    return acl(
        (_USER_OBJ, 7, -1), (_USER, user, 1002), (_GROUP_OBJ, 5, -1), (_GROUP, group, 5000),
        (_MASK, mask, -1), (_OTHER, other, -1),
    )  # fmt: skip


_MINIMAL = acl((_USER_OBJ, 6, -1), (_GROUP_OBJ, 4, -1), (_OTHER, 1, -1))
_RICH = ((_ACCESS, rich()),)
_INHERITING = Folder(xattrs=((_DEFAULT, rich()), (_ACCESS, rich(other=7))))
_NARROW = Folder(xattrs=((_DEFAULT, rich(mask=1)),), mode=0o777)
_SET_GID = Folder(xattrs=((_DEFAULT, rich()),), mode=0o2777, gid=4000)
_BAD = (
    b"", b"\2\0\0\0", acl(version=3), acl((_USER_OBJ, 7, -1)), rich()[:-1], rich() + b"xx",
    acl((_OTHER, 1, -1), (_USER_OBJ, 6, -1), (_GROUP_OBJ, 4, -1)),
    acl((_USER_OBJ, 9, -1), (_GROUP_OBJ, 4, -1), (_OTHER, 1, -1)),
)  # fmt: skip


def setxattr(name: str, attribute: str, value: bytes, flags: int = 0) -> None:
    os.setxattr(name, attribute, value, flags)


def makes(folder: str, mode: int) -> None:
    """Make a file and a directory of *mode*, and something without one of its own."""
    os.close(os.open(f"{folder}/f", os.O_CREAT | os.O_WRONLY, mode))
    os.mkdir(f"{folder}/d", mode)
    os.mkfifo(f"{folder}/p", mode)
    os.symlink("t", f"{folder}/l")
    os.mkdir(f"{folder}/d2", mode | 0o2000)


def tmpfile(mode: int) -> None:
    fd = os.open(".", os.O_TMPFILE | os.O_WRONLY, mode)
    os.link(f"/proc/self/fd/{fd}", "z", follow_symlinks=True)


def chmod_then_ask(name: str, mode: int) -> bytes:
    os.chmod(name, mode)
    return os.getxattr(name, _ACCESS)


_UMASK = "default ACL against umask"
CASES = [
    *(
        case(setxattr, "x", kind, value, by=(ROOT, OWNER, OTHER), on=one("file dir symlink fifo"))
        for kind in (_ACCESS, _DEFAULT)
        for value in (rich(), _MINIMAL)
    ),
    *(case(setxattr, "x", _ACCESS, value, on=one("file dir", "lower upper")) for value in _BAD),
    case(setxattr, "x", _ACCESS, rich(), os.XATTR_CREATE, on=one("file", xattrs=_RICH)),
    case(setxattr, "x", _ACCESS, rich(), os.XATTR_REPLACE, on=one("file")),
    case(os.removexattr, "x", _ACCESS, on=one("file dir", xattrs=_RICH), by=(ROOT, OWNER, OTHER)),
    case(os.removexattr, "x", _ACCESS, on=one("file dir")),
    case(os.removexattr, "x", _DEFAULT, on=one("file dir")),
    case(os.getxattr, "x", _ACCESS, on=one("file dir", xattrs=_RICH), by=EVERYBODY),
    case(os.getxattr, "x", _ACCESS, on=one("file dir symlink")),
    *(case(chmod_then_ask, "x", mode, on=one("file dir", xattrs=_RICH), by=(ROOT, OWNER))
      for mode in (0o640, 0o777, 0, 0o2755)),
    case(chown, "x", 77, 78, on=one("file dir", xattrs=_RICH)),
    *(
        case(faccessat2, "x", wanted, by=EVERYBODY,
             on=one("file", mode=0o600, xattrs=((_ACCESS, rich(mask=mask, user=user)),)))
        for mask in (7, 4) for user in (7, 0) for wanted in (os.R_OK, os.W_OK, os.X_OK)
    ),
    # the group bit goes for who is not in the group
    case(setxattr, "x", _ACCESS, rich(), by=(ROOT, OWNER), on=one("file", mode=0o2755, gid=4000)),
    case(setxattr, "x", _ACCESS, rich(), by=(ROOT, OWNER), on=one("file", mode=0o2755)),
    *(
        case(makes, ".", mode, on=nothing("absent"), folder=folder, umask=umask,
             by=(ROOT, OWNER, MEMBER), needs=_UMASK)
        for mode in (0o666, 0o640, 0o777) for umask in (0, 0o077)
        for folder in (_INHERITING, _NARROW, _SET_GID)
    ),
    *(case(makes, "x", 0o666, on=one("dir", mode=0o777, xattrs=((_DEFAULT, value),)), umask=0)
      for value in (rich(), _MINIMAL)),
    case(makes, ".", 0o666, on=nothing("gone"), folder=Folder(), umask=0o077),
    case(os.mkdir, "x", 0o777, on=nothing(), folder=_INHERITING, umask=0, by=(ROOT, OWNER)),
    case(tmpfile, 0o666, on=nothing("absent"), folder=_INHERITING, needs="O_TMPFILE", umask=0o77),
    case(os.rename, "x", "z", on=one("file dir", xattrs=_RICH), folder=_INHERITING),
]  # fmt: skip
