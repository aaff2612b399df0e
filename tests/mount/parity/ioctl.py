"""FS_IOC_GETFLAGS, SETFLAGS, FSGETXATTR, FSSETXATTR: chattr(1)'s flags and what they forbid."""

import errno
import fcntl
import os

from tests.support.callers import OTHER, OWNER, ROOT
from tests.support.calls import case, through
from tests.support.rawcalls import (
    FS_APPEND,
    FS_IMMUTABLE,
    FS_NOATIME,
    FS_NODUMP,
    FS_SYNC,
    fs_flags,
    fsx,
    set_fs_flags,
    set_fsx,
)
from tests.support.things import one

_NEEDS = "file flags"
_OPEN = one("file dir")


def forbids(name: str, flag: int) -> list[str]:
    """Set *flag*, try what it may forbid, and clear it again.

    FUSE keeps no such flag in its inodes: opening for writing needs no request and so works, and
    what is then written is refused; the current time reaches the daemon as any other.
    """
    fd = os.open(name, os.O_RDONLY)
    set_fs_flags(fd, flag)
    answers = []
    for call in (
        lambda: os.truncate(name, 3),
        lambda: os.chmod(name, 0o600),
        lambda: os.chown(name, 5, 5),
        lambda: os.setxattr(name, "user.a", b"v"),
        lambda: os.link(name, "linked"),
        lambda: os.rename(name, "renamed"),
        lambda: os.unlink(name),
    ):
        try:
            call()
            answers.append("success")
        except OSError as error:
            answers.append(errno.errorcode[error.errno])
    for now in (name, "renamed"):
        if os.path.exists(now):
            set_fs_flags(fd, 0, flag)
    return answers


def unknown(fd: int, number: int) -> None:
    fcntl.ioctl(fd, number, bytes(64))


CASES = [
    case(through(fs_flags), "x", on=_OPEN, by=(ROOT, OWNER, OTHER), needs=_NEEDS),
    case(through(fsx), "x", on=_OPEN, by=(ROOT, OTHER), needs=_NEEDS),
    *(
        case(through(set_fs_flags), "x", flag, on=_OPEN, by=(ROOT, OWNER, OTHER), needs=_NEEDS)
        for flag in (FS_NODUMP, FS_NOATIME, FS_SYNC, FS_NODUMP | FS_SYNC)
    ),
    case(through(set_fs_flags), "x", 0, on=_OPEN, needs=_NEEDS),
    case(through(set_fs_flags), "x", FS_IMMUTABLE, on=one("file"), by=(OWNER,), needs=_NEEDS),
    case(through(set_fsx), "x", 0x80, on=_OPEN, by=(ROOT, OWNER, OTHER), needs=_NEEDS),
    *(case(forbids, "x", flag, on=one("file"), needs=_NEEDS) for flag in (FS_IMMUTABLE, FS_APPEND)),
    case(through(fs_flags), "x", on=one("fifo char"), needs=_NEEDS),
    case(through(unknown), "x", 0x1234, on=_OPEN),
]  # fmt: skip
