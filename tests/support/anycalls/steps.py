"""What is drawn: steps, and cases of a tree and steps by some callers."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable
from typing import NamedTuple

from tests.support.anycalls.actor import Step
from tests.support.anycalls.callers import GROUPS, ROOT, USERS, Who, some_who
from tests.support.anycalls.trees import MODES, TARGET, Entry, some_tree, some_xattr
from tests.support.rawcalls import AT_EACCESS, FS_NOATIME, FS_NODUMP, KEEP_SIZE, PUNCH_HOLE, ZERO

LENGTH = 7  # steps of a case, besides those that open
_FILES = ("f", "g", "h", "d/x", "e/y", "n", "d/n", "e/n", "l")
_DIRS = ("d", "e", "d/s", "n", ".")
_ALL = (*_FILES, "d", "e", "d/s", ".", "p")
_NEW = ("n", "d/n", "e/n", "d/s/n", "n2", "f", "d/x")  # what may be there already
_OPENED = _FILES[:5]  # of these some are open from the start
_SLOTS = 3
_STRANGER = 0.4  # how often a step is made by somebody who makes no other

_ACCESS = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)
_ASIDE = (os.O_NOATIME, os.O_PATH, os.O_NOFOLLOW, os.O_DIRECTORY)
_MORE = (0, 0, os.O_TRUNC, os.O_APPEND, *_ASIDE)
_CREATING = (os.O_CREAT, os.O_CREAT | os.O_TRUNC, os.O_CREAT | os.O_EXCL)
_UMASKS = (0, 0o22, 0o77, 0o27)
_SIZES = (0, 3, 30)
_UTIME_NOW, _UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
_TIMES = (5, _UTIME_NOW, _UTIME_OMIT)
_RENAMES = (1, 2, 2)  # RENAME_NOREPLACE, RENAME_EXCHANGE
_SETXATTR = (0, 0, os.XATTR_CREATE, os.XATTR_REPLACE)
_NULL = os.makedev(1, 3)


class Turn(NamedTuple):
    """A step, and whose it is."""

    who: Who
    step: Step


class Case(NamedTuple):
    """A tree, and what is done to it. All plain data."""

    tree: tuple[Entry, ...]
    turns: tuple[Turn, ...]


def as_text(case: Case) -> str:
    """Return *case* as an expression, for ``test_pasted``."""
    rows = ["Case(", "    tree=(", *(f"        {entry!r}," for entry in case.tree), "    ),"]
    rows += ["    turns=(", *(f"        {turn!r}," for turn in case.turns), "    ),", ")"]
    return "\n".join(rows)


def some_case(seed: int, length: int = LENGTH) -> Case:
    """Return the case of that seed: most steps are of the same two callers."""
    rng = random.Random(seed)
    tree = some_tree(rng)
    regulars = [some_who(rng) for _ in range(2)]
    turns = [
        Turn(ROOT, ("opened", slot, path, os.O_RDWR))
        for slot, path in enumerate(rng.sample(_OPENED, _SLOTS))
    ]
    for _ in range(length):
        who = some_who(rng) if rng.random() < _STRANGER else rng.choice(regulars)
        turns.append(Turn(who, some_step(rng)))
    return Case(tree, tuple(turns))


def some_step(rng: random.Random) -> Step:
    """Draw a step: its kind by the number of its forms."""
    draw = rng.choices([some for some, _ in _KINDS], [forms for _, forms in _KINDS])[0]
    return draw(rng)


def _owner(rng: random.Random) -> Step:
    ids = rng.choice((-1, *USERS)), rng.choice((-1, *GROUPS))
    slot = rng.randrange(_SLOTS)
    by_name = rng.choice(("chown", "chown", "lchown")), rng.choice(_ALL), *ids
    return rng.choice(
        (by_name, by_name, ("fd", "fchown", slot, *ids), ("fd_path", "chown", slot, *ids))
    )


def _mode(rng: random.Random) -> Step:
    slot, mode = rng.randrange(_SLOTS), rng.choice(MODES)
    by_name = "os", "chmod", rng.choice(_ALL), mode
    by_fd = ("fd", "fchmod", slot, mode), ("fd_path", "chmod", slot, mode)
    return rng.choice((by_name, by_name, *by_fd))


def _open(rng: random.Random) -> Step:
    slot, flags = rng.randrange(_SLOTS), rng.choice(_ACCESS) | rng.choice(_MORE)
    file, any_, dir_ = rng.choice(_FILES), rng.choice(_ALL), rng.choice(_DIRS)
    what = (file, flags), (file, os.O_RDWR), (any_, flags), (dir_, os.O_RDONLY)
    return ("opened", slot, *rng.choice(what))


def _create(rng: random.Random) -> Step:
    new, mode = rng.choice(_NEW), rng.choice(MODES)
    slot, flags = rng.randrange(_SLOTS), rng.choice(_ACCESS) | rng.choice(_CREATING)
    temporary = "opened", slot, rng.choice(_DIRS), os.O_TMPFILE | os.O_RDWR, mode
    made: tuple[Step, ...] = (
        *[("opened", slot, new, flags, mode)] * 3,
        temporary,
        ("os", "mkdir", new, mode),
        ("os", "mknod", new, mode | stat.S_IFREG),
        ("os", "mknod", new, mode | stat.S_IFIFO),
        ("os", "mknod", new, mode | stat.S_IFCHR, _NULL),
        ("os", "symlink", TARGET, new),
    )
    return "umasked", rng.choice(_UMASKS), rng.choice(made)


def _write(rng: random.Random) -> Step:
    slot, size = rng.randrange(_SLOTS), rng.choice(_SIZES)
    written: tuple[Step, ...] = (
        ("fd", "write", slot, b"written"),
        ("fd", "pwrite", slot, b"W", 2),
        ("fd", "write", slot, b""),
        ("fd", "ftruncate", slot, size),
        ("os", "truncate", rng.choice(_FILES), size),
        ("fallocate", slot, rng.choice((0, KEEP_SIZE, KEEP_SIZE | PUNCH_HOLE, ZERO)), size or 20),
        ("copy", slot, rng.randrange(_SLOTS)),
        ("splice", slot),
        ("map_write", slot),
    )
    return rng.choice(written)


def _name(rng: random.Random) -> Step:
    slot, any_, new = rng.randrange(_SLOTS), rng.choice(_ALL), rng.choice(_NEW)
    named: tuple[Step, ...] = (
        ("link", any_, new),
        (rng.choice(("link_fd", "link_fd_path")), slot, new),
        ("os", "rename", any_, new),
        ("os", "rename", new, any_),
        ("rename", any_, rng.choice(_ALL), rng.choice(_RENAMES)),
        ("os", "unlink", any_),
        ("os", "rmdir", rng.choice(_DIRS)),
    )
    return rng.choice(named)


def _attribute(rng: random.Random) -> Step:
    slot, any_, file = rng.randrange(_SLOTS), rng.choice(_ALL), rng.choice(_FILES)
    name, value = some_xattr(rng)
    changed: tuple[Step, ...] = (
        ("os", "setxattr", any_, name, value, rng.choice(_SETXATTR)),
        ("os", "setxattr", file, name, value),
        ("fd", "setxattr", slot, name, value),
        ("os", "removexattr", any_, name),
        ("fd", "removexattr", slot, name),
        ("touch", any_, rng.choice(_TIMES), rng.choice(_TIMES)),
        ("set_flags", slot, rng.choice((FS_NODUMP, FS_NOATIME, 0))),
    )
    return rng.choice(changed)


def _look(rng: random.Random) -> Step:
    any_, file = rng.choice(_ALL), rng.choice(_FILES)
    asked: tuple[Step, ...] = (
        ("os", "getxattr", any_, some_xattr(rng)[0]),
        ("os", "listxattr", any_),
        ("access", any_, rng.randrange(8), rng.choice((0, AT_EACCESS))),
        ("read", file),
        ("os", "listdir", rng.choice(_DIRS)),
        ("os", "readlink", "l"),
        ("execute", file),
    )
    return rng.choice(asked)


_KINDS: tuple[tuple[Callable[[random.Random], Step], int], ...] = (
    (_owner, 5), (_mode, 4), (_open, 4), (_create, 8), (_write, 10), (_name, 8), (_attribute, 7),
    (_look, 7),
)  # fmt: skip
