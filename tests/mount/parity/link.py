"""link(2), linkat(2): second names, of everything, where it may be."""

import os

from tests.support.callers import EVERYBODY, OTHER, OWNER, ROOT
from tests.support.calls import case, through
from tests.support.rawcalls import AT_SYMLINK_FOLLOW, link_fd, linkat
from tests.support.things import Folder, Thing, beside, both, nothing, one

_DIR = Thing("dir", "lower", "d", mode=0o777)
_MERGED = Thing("dir", "merged", "d", mode=0o777)


def link_and_look(old: str, new: str) -> tuple[int, int, bool]:
    """Link, and return both counts and whether both names are one file at once."""
    os.link(old, new, follow_symlinks=False)
    first, second = os.lstat(old), os.lstat(new)
    return first.st_nlink, second.st_nlink, first.st_ino == second.st_ino


def link_unlink(old: str, new: str) -> tuple[int, int]:
    os.link(old, new, follow_symlinks=False)
    os.unlink(old)
    st = os.lstat(new)
    return st.st_nlink, st.st_size


CASES = [
    case(linkat, "x", "z", 0, by=EVERYBODY),
    case(link_and_look, "x", "z"),
    case(link_unlink, "x", "z", on=one("file symlink fifo char socket")),
    case(linkat, "x", "d/z", 0, on=beside(one(), _DIR), by=(ROOT, OWNER)),
    case(linkat, "x", "d/z", 0, on=beside(one("file symlink fifo"), _MERGED)),
    case(linkat, "x", "z", 0, on=nothing()),
    case(linkat, "x", "y", 0, on=both(one("file symlink dir"), one("file dir symlink", "lower"))),
    case(linkat, "x", "y", 0, on=both(one("file symlink"), nothing("gone"))),
    case(linkat, "x", "x", 0, on=one("file dir")),
    case(linkat, "x", "x2", 0, on=one("file", "linked linked-copied")),
    case(linkat, "x2", "z", 0, on=one("file", "linked linked-copied")),
    case(linkat, "x", "x/z", 0, on=one("file dir")),
    case(linkat, "x", "no/z", 0, on=one("file")),
    case(linkat, "x/z", "z", 0, on=one("file dir")),
    case(linkat, "x", "z", AT_SYMLINK_FOLLOW, on=one("symlink")),
    case(
        linkat, "x", "z", AT_SYMLINK_FOLLOW,
        on=beside(one("symlink"), Thing("file", "lower", "nowhere")),
    ),
    case(linkat, "x", "n" * 255, 0, on=one("file")),
    case(linkat, "x", "n" * 256, 0, on=one("file")),
    case(linkat, "n" * 256, "z", 0, on=one("file")),
    case(linkat, "x", "z", 0, on=one("file dir"), folder=Folder(mode=0o755), by=(ROOT, OTHER)),
    case(linkat, "x", "z", 0, on=one("file", mode=0o4755, uid=0), by=(OWNER, ROOT)),
    case(linkat, "x", "z", 0, on=one("file", mode=0o600, uid=0), by=(OWNER, ROOT)),
    case(through(link_fd), "x", "z", on=one("file fifo"), by=(ROOT, OWNER)),
    case(through(link_fd, os.O_PATH), "x", "z", on=one("file fifo dir")),
]  # fmt: skip
