"""access(2), faccessat2(2), stat(2), readlink(2), statfs(2): what is looked at."""

import os

from tests.support.callers import EVERYBODY, OWNER, ROOT
from tests.support.calls import case
from tests.support.kernel import AT_SYMLINK_NOFOLLOW
from tests.support.rawcalls import AT_EACCESS, faccessat2
from tests.support.things import Folder, Thing, beside, nothing, one

_MODES = (0o700, 0o070, 0o007, 0, 0o111)


def statvfs(name: str) -> tuple[int, int, int, int, int]:
    """What says the same of all filesystems on one disk; free blocks move meanwhile."""
    found = os.statvfs(name)
    return (found.f_bsize, found.f_frsize, found.f_blocks, found.f_files, found.f_namemax)


def fstatvfs(name: str, flags: int) -> tuple[int, int, int, int, int]:
    found = os.fstatvfs(os.open(name, flags | os.O_NONBLOCK))
    return (found.f_bsize, found.f_frsize, found.f_blocks, found.f_files, found.f_namemax)


def looks(name: str, follow: bool = False) -> tuple[object, ...]:
    st = os.stat(name, follow_symlinks=follow)
    return oct(st.st_mode), st.st_uid, st.st_gid, st.st_rdev, st.st_mtime_ns, st.st_blksize


def readlink(name: str) -> str:
    return os.readlink(name)


CASES = [
    *(
        case(faccessat2, "x", wanted, on=one("file dir", "lower upper", mode=mode),
             by=EVERYBODY)
        for mode in _MODES
        for wanted in (os.R_OK, os.W_OK, os.X_OK, os.R_OK | os.X_OK)
    ),
    *(case(faccessat2, "x", 7, flags, on=one(), by=(ROOT, OWNER))
      for flags in (0, AT_EACCESS, AT_SYMLINK_NOFOLLOW, 0x8000)),
    case(faccessat2, "x", 8, on=one("file", "lower")),
    case(faccessat2, "x", 0, on=nothing()),
    case(faccessat2, "x/y", 0, on=one("file dir", mode=0o600), by=EVERYBODY),
    case(faccessat2, "x/low", 4, on=one("dir", full=True, mode=0o711), by=EVERYBODY),
    case(statvfs, "x", on=one("file dir symlink")),
    case(statvfs, ".", on=nothing("absent"), by=EVERYBODY),
    case(statvfs, "n" * 256, on=nothing("absent")),
    *(case(fstatvfs, "x", flags, on=one("file dir fifo")) for flags in (0, os.O_PATH)),
    case(looks, "x", by=(ROOT, OWNER)),
    case(looks, "x", on=one("file dir"), folder=Folder(mode=0o700), by=EVERYBODY),
    case(looks, "x", True, on=beside(one("symlink"), Thing("dir", "merged", "nowhere"))),
    *(case(looks, name, on=one("file dir symlink")) for name in ("x/", "x/.", "x/..", "x//y", "")),
    case(looks, "n" * 256, on=nothing("absent")),
    *(case(readlink, "x", on=one("symlink", data=data))
      for data in (b"a", b"/", b"t" * 255, b"t" * 4095, b"\xff\xfe")),
    case(readlink, "x"),
    case(readlink, "x", on=nothing()),
    case(readlink, "x/y", on=one("file dir symlink")),
]  # fmt: skip
