"""What became of a tree by one step, and how that differs between two trees.

Times are told as whether they moved: those of two trees are never the same.
"""

from __future__ import annotations

import os
import stat
import time
from typing import Any, NamedTuple

from tests.support.anycalls.actor import Actor, Step
from tests.support.trees import read_xattrs

ANSWER = "the call"  # whose field is the answer
_BYTES = 1000
_LONG_AGO = 10**12  # nanoseconds since 1970: only ``Actor.touch`` sets a time before
_CLOCK = 5  # CLOCK_REALTIME_COARSE, which files get their times from
_MOMENT = 0.0005  # seconds
_PROBES = 4
_NOT_COMPARED = ("ino", "atime")  # a number of the filesystem's own; read as the mount is asked to

Row = dict[str, Any]
Seen = dict[str, Row]


class Facet(NamedTuple):
    """What differs: *field* of what has the *name*."""

    name: str
    field: str
    plain: Any
    ours: Any


def look(actor: Actor) -> Seen:
    """Return everything about the current directory's tree, and about what *actor* has open."""
    names = ["."]
    for at, dirs, files in os.walk("."):
        names += [os.path.join(at, name) for name in sorted(dirs + files)]
    found = {name: _seen(name, os.lstat(name)) for name in names}
    return found | {f"fd {slot}": _fields(os.fstat(fd)) for slot, fd in actor.fds.items()}


def _fields(st: os.stat_result) -> Row:
    fields: Row = {
        "mode": oct(st.st_mode),
        "uid": st.st_uid,
        "gid": st.st_gid,
        "mtime": st.st_mtime_ns,
        "ctime": st.st_ctime_ns,
        "ino": st.st_ino,
        "atime": st.st_atime_ns,
    }
    if stat.S_ISDIR(st.st_mode):  # filesystems disagree about both
        return fields
    return fields | {"size": st.st_size, "nlink": st.st_nlink}


def _seen(path: str, st: os.stat_result) -> Row:
    fields = _fields(st) | {"xattrs": read_xattrs(path.encode())}
    if stat.S_ISREG(st.st_mode):
        fields["content"] = _content(path)
    elif stat.S_ISLNK(st.st_mode):
        fields["content"] = os.readlink(path)
    return fields


def _content(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
    try:
        return os.read(fd, _BYTES)
    finally:
        os.close(fd)


def effect(was: Seen, now: Seen) -> Seen:
    """Return *now*, with what became of times, and which names are of one file."""
    before = {row["ino"]: row for row in was.values()}
    return {name: _told(before.get(row["ino"]), row, now) for name, row in now.items()}


def _told(old: Row | None, row: Row, now: Seen) -> Row:
    told = {key: value for key, value in row.items() if key not in _NOT_COMPARED}
    for key in ("mtime", "ctime"):
        told[key] = "moved" if old is None or old[key] != row[key] else "stays"
    if row["mtime"] < _LONG_AGO:
        told["mtime"] = row["mtime"]
    told["same"] = sorted(name for name, other in now.items() if other["ino"] == row["ino"])
    return told


def differences(plain: Seen, ours: Seen) -> list[Facet]:
    """Return what differs between two effects.

    A ctime that moves with us alone is no difference: a copy-up makes a new inode (see ``*.ctime``
    in tests/mount/parity/exceptions-calls).
    """
    found = []
    for name in sorted(plain.keys() | ours.keys()):
        one, two = plain.get(name, {}), ours.get(name, {})
        for field in sorted(one.keys() | two.keys()):
            facet = Facet(name, field, one.get(field), two.get(field))
            if facet.plain != facet.ours and facet[1:] != ("ctime", "stays", "moved"):
                found.append(facet)
    return found


def is_fine(folder: str) -> bool:
    """Return whether times there tell two changes apart, however close: since Linux 6.13 many do.

    A change that somebody looked at is then told from the next one by the filesystem.
    """
    at = f"{folder}/probe"
    with open(at, "w") as file:
        seen = {_changed(file.fileno(), count) for count in range(_PROBES)}
    os.unlink(at)
    return len(seen) == _PROBES


def _changed(fd: int, count: int) -> int:
    os.fchmod(fd, count)
    return os.fstat(fd).st_ctime_ns


def wait_for(step: Step, *, fine: bool) -> None:
    """Let the clock tick, if what *step* sets is else no other time than that of the step before.

    What FUSE itself calls "now", for a truncation or utimensat(2), is never fine.
    """
    if fine and not _sets_now(step):
        return
    was = time.clock_gettime_ns(_CLOCK)
    while time.clock_gettime_ns(_CLOCK) == was:
        time.sleep(_MOMENT)


def _sets_now(step: Step) -> bool:
    made = step[2] if step[0] == "umasked" else step
    truncates = made[0] == "opened" and made[3] & os.O_TRUNC
    return bool(truncates) or not {"touch", "truncate", "ftruncate"}.isdisjoint(made[:2])
