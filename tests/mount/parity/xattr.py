"""setxattr(2), getxattr(2), listxattr(2), removexattr(2): namespaces, sizes, flags, who may."""

import os

from tests.support.callers import BARE, EVERYBODY, OTHER, OWNER, ROOT
from tests.support.calls import case, through
from tests.support.things import Folder, nothing, one

_CREATE, _REPLACE = os.XATTR_CREATE, os.XATTR_REPLACE
_SOME = (("user.a", b"1"), ("user.b", b""), ("trusted.t", b"2"))
_HAVING = one("file dir", xattrs=_SOME)
_NAMES = (
    "user.x", "trusted.x", "security.x", "system.x", "user.", "user", "nothing.x", "",
    "user." + "n" * 250, "user." + "n" * 251, "trusted.overlayx", "user.overlayx.y",
)  # fmt: skip
_CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


def setxattr(name: str, attribute: str, value: bytes, flags: int = 0) -> None:
    os.setxattr(name, attribute, value, flags, follow_symlinks=False)


def getxattr(name: str, attribute: str) -> bytes:
    return os.getxattr(name, attribute, follow_symlinks=False)


def listxattr(name: str) -> list[str]:
    return sorted(os.listxattr(name, follow_symlinks=False))


def removexattr(name: str, attribute: str) -> None:
    os.removexattr(name, attribute, follow_symlinks=False)


def many(name: str, count: int) -> int:
    for number in range(count):
        os.setxattr(name, f"user.{number}", b"v")
    return len(os.listxattr(name))


def list_open(fd: int) -> list[str]:
    return sorted(os.listxattr(fd))


CASES = [
    *(case(setxattr, "x", name, b"v", by=(ROOT, OWNER, OTHER)) for name in _NAMES[:4]),
    *(case(setxattr, "x", name, b"v", on=one("file dir symlink")) for name in _NAMES[4:]),
    *(case(getxattr, "x", name, on=[*_HAVING, *one("symlink fifo")][::2]) for name in _NAMES),
    *(case(removexattr, "x", name, on=[*_HAVING, *one("symlink fifo")][1::2]) for name in _NAMES),
    *(
        case(setxattr, "x", "user.size", b"v" * size, flags, on=one("file dir", "lower upper"))
        for size in (0, 1, 100, 3000, 4000, 4096, 32768, 65535, 65536, 65537)
        for flags in (0, _CREATE)
    ),
    *(
        case(setxattr, "x", name, b"new", flags, by=(ROOT, OWNER),
             on=one("file dir", "lower copied merged", xattrs=_SOME))
        for name in ("user.a", "user.new", "trusted.t", "trusted.new")
        for flags in (_CREATE, _REPLACE, _CREATE | _REPLACE, 4)
    ),
    case(setxattr, "x", "user.a", b"1", on=_HAVING),
    *(case(removexattr, "x", name, on=_HAVING, by=EVERYBODY) for name in ("user.a", "trusted.t")),
    *(case(getxattr, "x", name, on=_HAVING, by=EVERYBODY) for name in ("user.a", "trusted.t")),
    case(getxattr, "x", "user.a", on=one("file", mode=0o600, xattrs=_SOME), by=EVERYBODY),
    case(setxattr, "x", "user.n", b"", on=one("file dir", mode=0o666), by=(OTHER, BARE)),
    case(setxattr, "x", "user.n", b"", on=one("dir", mode=0o1777), by=(OTHER, OWNER)),
    case(listxattr, "x", on=[*_HAVING, *one("symlink fifo char")], by=EVERYBODY),
    case(listxattr, "x", on=one("file", mode=0, xattrs=_SOME), by=(OTHER, OWNER)),
    case(many, "x", 40, on=one("file dir")),
    *(case(call, "x", *args, on=nothing())
      for call, args in ((listxattr, ()), (getxattr, ("user.a",)), (removexattr, ("user.a",)))),
    case(through(os.setxattr), "x", "user.a", b"by descriptor", on=_HAVING, by=(ROOT, OWNER)),
    case(through(os.removexattr), "x", "user.a", on=_HAVING),
    case(through(list_open), "x", on=_HAVING),
    case(through(os.getxattr, os.O_PATH), "x", "user.a", on=_HAVING),
    case(setxattr, "x", "security.capability", _CAPABILITY, on=one("file dir"), by=(ROOT, OWNER)),
    case(setxattr, "x", "security.capability", b"nonsense", on=one("file")),
    case(setxattr, ".", "user.a", b"v", on=one("file"), folder=Folder(xattrs=_SOME)),
    case(setxattr, "x2", "user.a", b"v", on=one("file", "linked linked-copied")),
]  # fmt: skip
