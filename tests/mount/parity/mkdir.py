"""mkdir(2), mkfifo(3), mknod(2), symlink(2): what is made, for whom, and where it cannot be."""

import os
import stat

from tests.support.callers import BARE, EVERYBODY, MEMBER, OTHER, OWNER, ROOT
from tests.support.calls import case
from tests.support.things import Folder, both, nothing, one

_NULL = os.makedev(1, 3)
_GROUPS = (ROOT, OWNER, MEMBER, OTHER)
_SET_GID = Folder(mode=0o2777, gid=3000)
_STRANGE = Folder(mode=0o2777, gid=4000)
_STICKY = Folder(mode=0o1777)
_CLOSED = Folder(mode=0o755)
_ANYTHING = one("file dir symlink fifo", "lower upper merged")
_TYPES = (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)


def make_in(folder: str, name: str) -> None:
    """Make one of everything in *folder*, which may be of any kind."""
    os.mkdir(f"{folder}/{name}d", 0o777)
    os.mkfifo(f"{folder}/{name}p", 0o666)
    os.symlink("target", f"{folder}/{name}l")
    os.close(os.open(f"{folder}/{name}f", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


CASES = [
    *(
        case(os.mkdir, "x", mode, on=nothing(), by=EVERYBODY, umask=umask)
        for mode, umask in ((0o777, 0o022), (0o7777, 0), (0, 0), (0o755, 0o777), (0o1751, 0o027))
    ),
    *(
        case(os.mkdir, "x", 0o2775, on=nothing(), by=_GROUPS, folder=folder, umask=2)
        for folder in (_SET_GID, _STRANGE, _STICKY, _CLOSED)
    ),
    case(os.mkdir, "x", 0o755, by=(ROOT, OWNER)),
    case(os.mkdir, "x/", 0o755, on=[*nothing(), *one("symlink file")]),
    case(os.mkdir, "x/y", 0o755, on=[*_ANYTHING, *nothing()], by=(ROOT, OWNER, OTHER)),
    case(os.mkdir, ".", 0o755, on=nothing("absent")),
    case(os.mkdir, "x/.", 0o755, on=one("dir", "lower")),
    case(os.mkdir, "n" * 255, 0o755, on=nothing("absent")),
    case(os.mkdir, "n" * 256, 0o755, on=nothing("absent")),
    case(make_in, "x", "new", on=one("dir", full=True), by=(ROOT, OWNER, OTHER)),
    case(make_in, ".", "new", on=one("file dir", "lower"), by=EVERYBODY),
    case(make_in, ".", "new", on=nothing("absent"), folder=_SET_GID, by=_GROUPS),
    case(make_in, "x", "new", on=one("dir", mode=0o3777, gid=4000), by=_GROUPS),
    *(
        case(os.mkfifo, "x", mode, on=nothing(), by=_GROUPS, umask=umask, folder=folder)
        for mode, umask, folder in (
            (0o666, 0o022, Folder()),
            (0o7777, 0, Folder()),
            (0o2755, 0, _SET_GID),
            (0o6711, 0o002, _STRANGE),
            (0o600, 0, _CLOSED),
        )
    ),
    case(os.mkfifo, "x", 0o600, by=(ROOT, OWNER)),
    *(case(os.mknod, "x", kind | 0o640, _NULL, on=nothing(), by=EVERYBODY) for kind in _TYPES),
    *(case(os.mknod, "x", kind | 0o640, 0, on=nothing(), by=(ROOT, OWNER)) for kind in _TYPES),
    *(
        case(os.mknod, "x", kind | 0o7777, os.makedev(259, 65537), on=nothing(), umask=0o22)
        for kind in _TYPES
    ),
    case(os.mknod, "x", 0o644, 0, on=nothing(), by=(ROOT, OWNER)),
    case(os.mknod, "x", stat.S_IFDIR | 0o755, 0, on=nothing()),
    case(os.mknod, "x", stat.S_IFLNK | 0o755, 0, on=nothing()),
    case(os.mknod, "x", stat.S_IFIFO | 0o644, 0),
    case(os.mknod, "x", stat.S_IFREG | 0o2755, 0, on=nothing(), folder=_STRANGE, by=_GROUPS),
    case(os.mknod, "n" * 256, stat.S_IFIFO | 0o644, 0, on=nothing("absent")),
    *(
        case(os.symlink, target, "x", on=nothing(), by=(ROOT, OWNER))
        for target in ("t", "/", "a" * 255, "d/" * 1000 + "e", "t" * 4095, "t" * 4096, "")
    ),
    case(os.symlink, "t", "x", by=(ROOT, OWNER)),
    case(os.symlink, "t", "x", on=nothing(), folder=_STRANGE, by=_GROUPS, umask=0o777),
    case(os.symlink, "t", "x", on=nothing(), folder=_CLOSED, by=(ROOT, OWNER, BARE)),
    case(os.symlink, "t", "x/y", on=[*_ANYTHING, *nothing()]),
    case(os.symlink, "t", "n" * 255, on=nothing("absent")),
    case(os.symlink, "t", "n" * 256, on=nothing("absent")),
    case(os.mkdir, "y", 0o700, on=both(one("file", "lower"), nothing("gone"))),
]
