"""chmod(2), fchmod(2): modes, who may, and which bits the kernel takes away."""

import os

from tests.support.callers import BARE, EVERYBODY, MEMBER, OTHER, OWNER, ROOT
from tests.support.calls import case, through
from tests.support.things import Thing, beside, nothing, one

_FOREIGN = 4000  # a group that nobody is in
_TARGET = Thing("file", "lower", "nowhere")  # what the symbolic link x leads to

CASES = [
    case(os.chmod, "x", 0o640, by=EVERYBODY),
    *(
        case(os.chmod, "x", mode)
        for mode in (0, 0o111, 0o7777, 0o1644, 0o2755, 0o4755, 0o6711, 0o10644)
    ),
    # the group bit stays with those who are in the file's group
    case(os.chmod, "x", 0o2755, on=one("file dir"), by=(ROOT, OWNER, BARE)),
    case(os.chmod, "x", 0o6755, on=one("file dir", gid=_FOREIGN), by=(ROOT, OWNER)),
    case(os.chmod, "x", 0o2755, on=one("file dir", uid=0, gid=_FOREIGN), by=(ROOT, BARE)),
    # the sticky bit: a directory's owner may set it, and a file's on Linux too
    case(os.chmod, "x", 0o1777, on=one("file dir"), by=(ROOT, OWNER, MEMBER, OTHER)),
    # to what it was: ctime moves all the same
    case(os.chmod, "x", 0o644, on=one("file")),
    case(os.chmod, "x", 0o755, on=one("dir", full=True)),
    case(through(os.fchmod), "x", 0o600, on=one("file dir fifo char"), by=(ROOT, OWNER)),
    case(through(os.fchmod, os.O_WRONLY), "x", 0o4711, on=one("file"), by=(ROOT, OWNER)),
    case(through(os.fchmod, os.O_PATH), "x", 0o600, on=one("file dir symlink")),
    case(os.chmod, "x", 0o600, on=beside(one("symlink"), _TARGET), by=(ROOT, OWNER, OTHER)),
    case(os.chmod, "x", 0o600, on=nothing()),
    case(os.chmod, "x/y", 0o600, on=one("file dir")),
    case(os.chmod, ".", 0o1770, on=one("file"), by=(ROOT, OTHER)),
    # through a second name
    case(os.chmod, "x2", 0o600, on=one("file", "linked linked-copied"), by=(ROOT, OWNER)),
]
