"""utimensat(2), futimens(3): now, omitted, to the nanosecond, and who may set what."""

import os

from tests.support.callers import EVERYBODY, MEMBER, OTHER, OWNER, ROOT
from tests.support.calls import case, through
from tests.support.kernel import AT_SYMLINK_NOFOLLOW, UTIME_NOW, UTIME_OMIT
from tests.support.rawcalls import utimens_now, utimensat
from tests.support.things import Folder, Thing, beside, nothing, one

_OMIT, _NOW = (0, UTIME_OMIT), (0, UTIME_NOW)
_TIMES = ((1, 2), (0, 0), (-1, 1), (-(2**31), 0), (2**31, 999_999_999), (2**33, 7))
_TARGET = Thing("file", "lower", "nowhere")

CASES = [
    *(
        case(utimensat, "x", atime, mtime, AT_SYMLINK_NOFOLLOW, atime=True)
        for atime, mtime in (
            (_OMIT, _OMIT), (_NOW, _OMIT), (_OMIT, _NOW), (_NOW, _NOW), ((7, 8), _OMIT),
            (_OMIT, (7, 8)), (_NOW, (7, 8)), ((7, 8), _NOW), ((123, 456_789), (987, 654_321)),
        )
    ),
    *(
        case(utimensat, "x", time, time, AT_SYMLINK_NOFOLLOW, on=one("file dir"), atime=True)
        for time in _TIMES
    ),
    *(
        case(utimensat, "x", atime, mtime, AT_SYMLINK_NOFOLLOW, by=EVERYBODY, atime=True,
             on=one("file dir", "lower upper merged linked", mode=mode))
        for mode in (0o644, 0o666)
        for atime, mtime in ((_NOW, _NOW), ((7, 8), (7, 8)), (_NOW, _OMIT), (_OMIT, _OMIT))
    ),
    *(case(utimens_now, "x", by=EVERYBODY, on=one("file dir", "lower copied", mode=mode))
      for mode in (0o644, 0o666, 0o600)),
    case(utimensat, "x", (1, 1_000_000_000), (1, 1), on=one("file")),
    case(utimensat, "x", (1, -1), (1, 1), on=one("file")),
    case(utimensat, "x", (5, 6), (7, 8), 99, on=one("file", "lower")),
    case(utimensat, "x", (5, 6), (7, 8), on=beside(one("symlink"), _TARGET)),
    case(utimensat, "x", (5, 6), (7, 8), on=one("symlink")),
    case(utimensat, "x", (5, 6), (7, 8), on=nothing()),
    case(utimensat, "x/y", (5, 6), (7, 8), on=one("file dir")),
    case(utimensat, ".", (5, 6), (7, 8), on=one("file"), by=(ROOT, OTHER), atime=True),
    case(utimensat, "x2", (5, 6), (7, 8), on=one("file", "linked linked-copied"), atime=True),
    *(case(through(os.utime, flags), "x", on=one("file", mode=0o666), by=(ROOT, OWNER, MEMBER),
           folder=Folder(mode=0o755), atime=True)
      for flags in (os.O_RDONLY, os.O_WRONLY)),
    case(through(os.utime, os.O_PATH), "x", on=one("file")),
    case(through(os.utime), "x", (3, 4), on=one("dir fifo"), by=(ROOT, OWNER), atime=True),
]  # fmt: skip
