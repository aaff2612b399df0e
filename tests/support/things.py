"""What calls are made on: one file of some kind, in a state that only a union knows.

A ``Thing`` is built below a folder twice: for a union in a lower and an upper directory, for the
plain directory in one, so that all three show the same. States:

* ``lower``, ``upper``: in the one or the other; ``linked``: lower, with the second name ``x2``;
* ``copied``: lower, and copied up when the call comes; ``linked-copied``: both;
* ``merged``: a directory in both; ``emptied``: one whose only lower name was removed;
* ``remade``: a directory that was removed with what it held, and made again (opaque);
* ``gone``: was lower and is removed (a whiteout); ``absent``: never was.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tests.support import kernel
from tests.support.rawcalls import set_fs_flags
from tests.support.stacks import PAST_NS

OWNER_UID, GROUP = 1000, 3000
DATA = b"0123456789"
_TYPES = {
    "file": stat.S_IFREG,
    "fifo": stat.S_IFIFO,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
    "socket": stat.S_IFSOCK,
}
_MODES = {"dir": 0o755, "symlink": 0o777}
_DEVICE = os.makedev(1, 3)  # null, and as a block device a RAM disk that is not there


@dataclass(frozen=True, slots=True)
class Thing:
    """*data*: a file's content, a symbolic link's target. *full*: a directory holds files.

    *hole*: bytes of nothing before the data. *xattrs* as pairs. *flags*: chattr(1)'s, in a lower
    directory, or given by a program if it is in the upper.
    """

    kind: str
    state: str
    name: str = "x"
    mode: int = -1
    uid: int = OWNER_UID
    gid: int = GROUP
    data: bytes = b""
    hole: int = 0
    full: bool = False
    xattrs: tuple[tuple[str, bytes], ...] = ()
    flags: int = 0

    @property
    def label(self) -> str:
        return f"{self.state}-{self.kind}"

    def build(self, lower: bytes, upper: bytes) -> None:
        """Make it in *lower* and *upper* (the same for a plain directory)."""
        name = b"/" + os.fsencode(self.name)
        if self.state == "absent":
            return
        if self.state != "upper":
            self._make(lower + name, b"low")
        if self.state in ("upper", "merged"):
            self._make(upper + name, b"up")
        if self.state.startswith("linked"):
            os.link(lower + name, lower + name + b"2", follow_symlinks=False)
        if self.flags and self.state in ("lower", "linked"):
            _set_flags(lower + name, self.flags)

    def _make(self, at: bytes, inside: bytes) -> None:
        if self.kind == "dir":
            os.makedirs(at, exist_ok=True)
        elif self.kind == "symlink":
            os.symlink(self.data or b"nowhere", at)
        else:
            os.mknod(at, _TYPES[self.kind] | 0o600, _DEVICE)
        if self.kind == "file":
            with open(at, "wb") as file:
                file.seek(self.hole)
                file.write(self.data or DATA)
        if self.kind == "dir" and (self.full or self.state == "emptied"):
            with open(at + b"/" + inside, "wb") as file:
                file.write(inside)
            _settle(at + b"/" + inside)
        self._describe(at)

    def _describe(self, at: bytes) -> None:
        os.lchown(at, self.uid, self.gid)
        if self.kind != "symlink":
            os.chmod(at, self.mode if self.mode >= 0 else _MODES.get(self.kind, 0o644))
        for name, value in self.xattrs:
            os.setxattr(at, name, value, follow_symlinks=False)
        _settle(at)

    def prepare(self, folder: bytes) -> None:
        """Bring it into its state, in the tree that programs see."""
        at = folder + b"/" + os.fsencode(self.name)
        if self.flags and self.state in ("upper", "merged"):
            _set_flags(at, self.flags)
        if self.state.endswith("copied"):
            _settle(at)
        elif self.state == "gone":
            os.unlink(at)
        elif self.state in ("emptied", "remade"):
            for name in os.listdir(at):
                os.unlink(at + b"/" + name)
            if self.state == "remade":
                os.rmdir(at)
                os.mkdir(at)
                self._describe(at)
            _settle(at)


def _set_flags(at: bytes, flags: int) -> None:
    fd = os.open(at, os.O_RDONLY)
    try:
        set_fs_flags(fd, flags)
    finally:
        os.close(fd)


def _settle(at: bytes) -> None:
    kernel.utimensat(at, PAST_NS, PAST_NS)


@dataclass(frozen=True, slots=True)
class Folder:
    """The directory that the things of one call are in: everybody's, unless said otherwise."""

    mode: int = 0o777
    uid: int = 0
    gid: int = 0
    state: str = "lower"
    xattrs: tuple[tuple[str, bytes], ...] = ()

    def build(self, scene: Scene, lower: bytes, upper: bytes) -> None:
        """Make it with *scene*, as ``Thing.build`` does."""
        needs_upper = self.state != "lower" or any(
            thing.state in ("upper", "merged") for thing in scene
        )
        os.mkdir(lower)
        if needs_upper:
            os.makedirs(upper, exist_ok=True)
        for thing in scene:
            thing.build(lower, upper)
        for at in {lower, upper} if needs_upper else {lower}:
            self._describe(at)

    def _describe(self, at: bytes) -> None:
        os.chown(at, self.uid, self.gid)
        os.chmod(at, self.mode)
        for name, value in self.xattrs:
            os.setxattr(at, name, value)
        _settle(at)

    def prepare(self, scene: Scene, at: bytes) -> None:
        """Bring what is in it into its state, in the tree that programs see."""
        for thing in scene:
            thing.prepare(at)
        if any(thing.state in ("gone", "remade") for thing in scene):
            _settle(at)


Scene = tuple[Thing, ...]

STATES = {
    "file": "lower upper copied linked linked-copied",
    "dir": "lower upper merged copied emptied remade",
    "symlink": "lower upper copied",
    "fifo": "lower upper copied",
    "char": "lower upper copied",
    "block": "lower upper",
    "socket": "lower upper copied",
}
KINDS = " ".join(STATES)


def one(kinds: str = KINDS, states: str = "", **more) -> list[Scene]:
    """Return scenes of one thing: every kind of *kinds* in every state (of *states*, if given).

    *more* are fields of ``Thing``.
    """
    wanted = set(states.split())
    return [
        (Thing(kind, state, **more),)
        for kind in kinds.split()
        for state in STATES[kind].split()
        if not wanted or state in wanted
    ]


def nothing(*states: str) -> list[Scene]:
    """Return scenes without ``x``: never there, or removed."""
    return [(Thing("file", state),) for state in states or ("absent", "gone")]


def both(first: Iterable[Scene], second: Iterable[Scene], name: str = "y") -> list[Scene]:
    """Return every scene of *first* beside every one of *second*, whose thing is called *name*."""
    return [
        (*left, *(replace(thing, name=name) for thing in right))
        for left, right in itertools.product(list(first), list(second))
    ]


def beside(scenes: Iterable[Scene], *things: Thing) -> list[Scene]:
    """Return *scenes*, each with *things* added."""
    return [(*scene, *things) for scene in scenes]


def label(scene: Sequence[Thing]) -> str:
    return "+".join(thing.label for thing in scene) or "nothing"
