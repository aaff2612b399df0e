"""chown(2), lchown(2), fchown(2): who may, -1, and the set-id bits that go."""

import os

from tests.support.callers import BARE, EVERYBODY, MEMBER, OTHER, OWNER, ROOT
from tests.support.calls import case, through
from tests.support.rawcalls import chown, lchown
from tests.support.things import DATA, Thing, beside, nothing, one

_TARGET = Thing("file", "lower", "nowhere", mode=0o6755)
_SET_ID = [
    scene
    for mode in (0o4755, 0o2755, 0o6755, 0o6711, 0o2644, 0o6644, 0o7777)
    for scene in one("file", "lower upper copied linked", mode=mode)
]
_CAPABILITY = (("security.capability", bytes.fromhex("0100000200040000000000000000000000000000")),)


def tried(name: str) -> None:
    """chown(-1, -1) by one who may not, with or without EPERM.

    FUSE lets everybody ask, and a daemon that refused would refuse others' writes as well: the
    kernel asks the same before those. So what counts is that nothing changes.
    """
    try:
        chown(name, -1, -1)
    except PermissionError:
        pass


CASES = [
    case(lchown, "x", 77, 78, by=EVERYBODY),
    case(lchown, "x", -1, 3000, by=(ROOT, OWNER, MEMBER)),
    case(lchown, "x", 1000, -1, by=(ROOT, OWNER, OTHER)),
    case(lchown, "x", -1, -1, by=EVERYBODY),
    case(lchown, "x", 1000, 1000, by=(ROOT, OWNER, OTHER)),
    case(lchown, "x", 1000, 5000, on=one("file dir"), by=(OWNER, MEMBER)),
    case(lchown, "x", 2**32 - 2, 2**32 - 2, on=one("file dir symlink")),
    # set-id bits and capabilities go, whoever does it
    case(chown, "x", -1, -1, on=_SET_ID, by=(ROOT, OWNER)),
    case(tried, "x", on=_SET_ID, by=(OTHER, BARE)),
    case(chown, "x", 77, -1, on=_SET_ID),
    case(chown, "x", -1, 3000, on=_SET_ID, by=(ROOT, OWNER)),
    case(chown, "x", 77, 78, on=one("dir", mode=0o6755)),
    case(chown, "x", -1, -1, on=one("dir", mode=0o6755), by=(ROOT, OWNER)),
    case(chown, "x", 77, 78, on=one("fifo char", mode=0o6755)),
    case(chown, "x", 77, 78, on=one("file", mode=0o755, xattrs=_CAPABILITY)),
    case(chown, "x", -1, -1, on=one("file", mode=0o755, xattrs=_CAPABILITY), by=EVERYBODY),
    case(through(os.fchown), "x", 77, 78, on=one("file dir", mode=0o6755), by=(ROOT, OWNER)),
    case(through(os.fchown), "x", -1, -1, on=one("file dir", mode=0o6755), by=(ROOT, OWNER)),
    case(through(os.fchown, os.O_PATH), "x", 77, 78, on=one("file")),
    case(chown, "x", 77, 78, on=beside(one("symlink"), _TARGET), by=(ROOT, OWNER)),
    case(chown, "x", 77, 78, on=nothing()),
    case(chown, "x/y", 77, 78, on=one("file")),
    case(chown, ".", 77, 78, on=one("file"), by=(ROOT, OTHER)),
    case(chown, "x2", 77, 78, on=one("file", "linked linked-copied", data=DATA)),
]
