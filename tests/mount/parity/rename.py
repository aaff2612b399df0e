"""rename(2), renameat2(2): everything over everything, exchanged, kept, and where it cannot be."""

import os

from tests.support.callers import EVERYBODY, MEMBER, OTHER, OWNER, ROOT
from tests.support.calls import case
from tests.support.kernel import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT
from tests.support.kernel import renameat2 as _renameat2
from tests.support.things import Folder, Thing, beside, both, nothing, one

_CLOSED = Folder(mode=0o755)
_STICKY = (Folder(mode=0o1777), Folder(mode=0o1777, uid=1002), Folder(mode=0o1777, uid=1000))
_FEW = "lower upper merged linked"
_FULL = one("dir", "lower upper merged copied", full=True)
_INTO = Thing("dir", "lower", "d", mode=0o777)
_ALL = (0, RENAME_NOREPLACE, RENAME_EXCHANGE)
_SUB = Thing("dir", "merged", "d", mode=0o777, full=True)


def renameat2(old: str, new: str, flags: int = 0) -> None:
    _renameat2(os.fsencode(old), os.fsencode(new), flags)


def there_and_back(old: str, new: str) -> tuple[int, int]:
    """Rename twice; the number of the file is the same all the time."""
    first = os.lstat(old).st_ino
    os.rename(old, new)
    second = os.lstat(new).st_ino
    os.rename(new, old)
    return first == second, os.lstat(old).st_ino == first


def rename_open(old: str, new: str) -> tuple[bytes, bytes, int]:
    """Replace the open file *new*: its descriptor keeps the old content, with no name left."""
    fd = os.open(new, os.O_RDONLY)
    os.rename(old, new)
    kept, nlink = os.pread(fd, 99, 0), os.fstat(fd).st_nlink
    with open(new, "rb") as file:
        return kept, file.read(), nlink


def over_own_link(old: str, new: str) -> int:
    """Rename over another name of the same file, which does nothing at all (POSIX)."""
    os.rename(old, new)
    return os.lstat(new).st_nlink


CASES = [
    case(renameat2, "x", "z", by=EVERYBODY),
    *(case(renameat2, "x", "y", flags, on=both(one(states=_FEW), one(states=_FEW)))
      for flags in _ALL),
    *(case(renameat2, "x", "y", flags, on=both(_FULL, [*_FULL, *one("file", "lower")]))
      for flags in _ALL),
    case(renameat2, "x", "y", RENAME_EXCHANGE, on=both(one("file", "lower upper linked"), _FULL)),
    *(case(renameat2, "x", "z", flags, on=one("file dir symlink fifo"))
      for flags in (*_ALL, RENAME_NOREPLACE | RENAME_EXCHANGE, 8)),
    case(renameat2, "x", "y", on=both([*one("file symlink fifo"), *_FULL], nothing("gone"))),
    *(case(renameat2, "x", "d/z", on=beside([*one(), *_FULL], each))
      for each in (_INTO, _SUB)),
    case(renameat2, "d/low", "z", on=[(_SUB,)], by=(ROOT, OWNER)),
    case(renameat2, "x", "d", on=beside([*one("dir file", _FEW), *_FULL], _SUB)),
    case(renameat2, "x", "x/z", on=[*one("file dir"), *_FULL]),
    case(renameat2, "x", "x/z", RENAME_EXCHANGE, on=_FULL),
    case(renameat2, "x/low", "x", on=_FULL),
    case(renameat2, "x/low", "x", RENAME_EXCHANGE, on=_FULL),
    case(renameat2, "x", "x", on=one()),
    case(renameat2, "x", "x", RENAME_NOREPLACE, on=one("file dir")),
    case(renameat2, "x", "x", RENAME_EXCHANGE, on=one("file dir")),
    case(over_own_link, "x", "x2", on=one("file", "linked linked-copied")),
    case(renameat2, "x", "x2", RENAME_EXCHANGE, on=one("file", "linked linked-copied")),
    case(renameat2, "x2", "z", on=one("file", "linked linked-copied")),
    case(renameat2, "x", "z", on=nothing()),
    case(renameat2, "x", "no/z", on=one("file dir")),
    case(renameat2, "x/", "z", on=one("file dir symlink")),
    case(renameat2, "x", "z/", on=one("file dir symlink")),
    case(renameat2, ".", "z", on=nothing("absent")),
    case(renameat2, "x", ".", on=one("dir", "lower")),
    case(renameat2, "x", "..", on=one("dir", "lower")),
    case(renameat2, "x", "n" * 255, on=one("file dir", "lower merged")),
    case(renameat2, "x", "n" * 256, on=one("file dir", "lower")),
    case(renameat2, "n" * 256, "x", on=one("file", "lower")),
    *(case(renameat2, "x", "z", on=one("file dir symlink"), folder=each,
           by=(ROOT, OWNER, MEMBER, OTHER)) for each in (*_STICKY, _CLOSED)),
    *(case(renameat2, "x", "y", flags, folder=each, by=(ROOT, OWNER, MEMBER, OTHER),
           on=both(one("file dir", "lower", uid=uid), one("file dir", "upper", uid=1001)))
      for each in _STICKY for flags in (0, RENAME_EXCHANGE) for uid in (1000, 1002)),
    # another's directory moves to another parent only for who may write it
    case(renameat2, "x", "d/z", by=(OWNER, OTHER, ROOT),
         on=beside([*one("dir", mode=0o555, full=True), *one("dir", mode=0o777, uid=0)], _INTO)),
    case(there_and_back, "x", "z", on=[*one(), *_FULL]),
    case(rename_open, "x", "y", on=both(one("file"), one("file", data=b"the old one"))),
    case(renameat2, "x", "z", RENAME_WHITEOUT, on=one("file", "absent"), by=(ROOT, OWNER)),
]  # fmt: skip
