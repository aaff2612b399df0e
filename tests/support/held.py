"""Random work by what is held: descriptors, working directories, names relative to both.

A ``Holder`` does steps in one tree, each relative to a directory that it has open, however that was
moved or removed meanwhile. The same steps in two trees must give the same answers. Steps speak of
names and slots only, so that they mean the same in every tree; a ``Chooser`` looks at one of them.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Sequence
from typing import Any

from tests.support import kernel
from tests.support.answers import digest, pattern
from tests.support.callers import answer_of
from tests.support.rawcalls import link_fd
from tests.support.stacks import ORDINARY, Dir, File, Layer, Link, Symlink

Step = tuple[Any, ...]  # the name of a method of Holder, and its arguments

NAMES = (b"a", b"b", b"c", b"f", b"g", b"new")
SLOTS = 6
_FLAGS = (
    os.O_RDONLY,
    os.O_RDONLY | os.O_DIRECTORY,
    os.O_RDONLY | os.O_DIRECTORY,
    os.O_RDWR,
    os.O_RDWR | os.O_CREAT,
    os.O_WRONLY | os.O_APPEND,
    os.O_PATH | os.O_NOFOLLOW,
    os.O_PATH | os.O_DIRECTORY,
    os.O_TMPFILE | os.O_RDWR,
)
# Of files and directories. Who closes a directory to himself keeps his own daemon out.
_MODES = (0o755, 0o700, *(() if ORDINARY else (0o644, 0o600)))
_RENAMES = (0, 0, 0, kernel.RENAME_EXCHANGE, kernel.RENAME_EXCHANGE, kernel.RENAME_NOREPLACE)


def layers() -> tuple[Layer, Layer]:
    """Two lower layers of the names that steps use: merged, only below, only above, linked."""
    low: list[Any] = [Symlink(b"a/c", b"f"), Dir(b"c/new")]
    for top in (b"a", b"b", b"b/a", b"c"):
        low += [File(top + b"/f", b"low " + top, 5000), File(top + b"/g", b"g", 10)]
    low += [Link(b"g", b"a/g"), File(b"b/a/b/f", b"deep", 9000), File(b"b/a/c/g", b"deepest", 100)]
    high = [File(b"a/b/f", b"high", 3000), File(b"b/a/new", b"n", 70), Dir(b"b/b"), File(b"f")]
    return low, high


class Holder:
    """What is held in the tree at *root*: descriptors by slot; slot 0 is the root."""

    def __init__(self, root: bytes) -> None:
        self.root = os.path.realpath(root)
        self._fds = {0: os.open(root, os.O_RDONLY | os.O_DIRECTORY)}

    def close(self) -> None:
        os.chdir("/")
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def do(self, step: Step) -> Any:
        """Return what *step* answered: a value that is the same for every tree, or an errno."""
        return answer_of(getattr(self, step[0]), *step[1:])

    def seen(self) -> dict[int, Any]:
        """Return what every descriptor tells, and which of them are the same file."""
        facts = {slot: (_facts(fd), self._text(fd)) for slot, fd in self._fds.items() if slot}
        stats = {slot: os.fstat(fd) for slot, fd in self._fds.items()}
        same = [
            (one, other)
            for one in stats
            for other in stats
            if one < other and os.path.samestat(stats[one], stats[other])
        ]
        return {**facts, 0: same}

    def _text(self, fd: int) -> bytes:
        """What /proc says is the name; of a file that never had one, nothing is to be compared."""
        text = os.readlink(b"/proc/self/fd/%d" % fd)
        nameless = text.endswith(b" (deleted)") and (b"/#" in text or b"//" in text)
        return b"nameless" if nameless else text.replace(self.root, b"", 1)

    # --- holding -----------------------------------------------------------------------------

    def open(self, slot: int, base: int, path: bytes, flags: int) -> None:
        new = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o644, dir_fd=self._fds[base])
        self._put(slot, new)

    def reopen(self, slot: int, base: int, flags: int) -> None:
        """By the name that /proc has for a descriptor, as shells and linkers do."""
        flags &= ~(os.O_NOFOLLOW | os.O_CREAT)
        self._put(slot, os.open(b"/proc/self/fd/%d" % self._fds[base], flags | os.O_NONBLOCK))

    def up(self, slot: int, base: int) -> None:
        """``..``, but not out of the tree."""
        name = b"." if self._is_root(base) else b".."
        self._put(slot, os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._fds[base]))

    def _is_root(self, slot: int) -> bool:
        return os.path.samestat(os.fstat(self._fds[slot]), os.fstat(self._fds[0]))

    def _put(self, slot: int, fd: int) -> None:
        if slot in self._fds:
            os.close(self._fds[slot])
        self._fds[slot] = fd

    def create(self, slot: int, base: int, path: bytes) -> None:
        self.open(slot, base, path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def directories(self) -> list[int]:
        """Return the slots of directories, removed ones included."""
        return [slot for slot, fd in self._fds.items() if stat.S_ISDIR(os.fstat(fd).st_mode)]

    def way_down(self, base: int, rng: random.Random) -> list[bytes]:
        """Return the names of a random way from the directory in slot *base* to what is below."""
        names: list[bytes] = []
        place = b"/proc/self/fd/%d" % self._fds.get(base, -1)
        while len(names) < 4 and os.path.isdir(place) and not (names and os.path.islink(place)):
            found = sorted(os.listdir(place))
            if not found or (names and rng.random() < 0.3):
                break
            names.append(rng.choice(found))
            place += b"/" + names[-1]
        return names

    # --- names -------------------------------------------------------------------------------

    def mkdir(self, base: int, path: bytes) -> None:
        os.mkdir(path, 0o755, dir_fd=self._fds[base])

    def rmdir(self, base: int, path: bytes) -> None:
        os.rmdir(path, dir_fd=self._fds[base])

    def unlink(self, base: int, path: bytes) -> None:
        os.unlink(path, dir_fd=self._fds[base])

    def clear(self, base: int, path: bytes) -> None:
        """``rm -r`` of a directory, by its descriptor."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._fds[base])
        try:
            _clear(fd)
        finally:
            os.close(fd)
        os.rmdir(path, dir_fd=self._fds[base])

    def rename(self, base: int, old: bytes, to: int, new: bytes, flags: int) -> None:
        kernel.renameat2(old, new, flags, dir_fd=self._fds[base], to_fd=self._fds[to])

    rename_over = rename

    def link(self, base: int, old: bytes, to: int, new: bytes) -> None:
        fds = {"src_dir_fd": self._fds[base], "dst_dir_fd": self._fds[to]}
        os.link(old, new, follow_symlinks=False, **fds)

    def link_held(self, slot: int, base: int, path: bytes) -> None:
        """Give what is open another name, as an O_TMPFILE gets its first."""
        os.fchdir(self._fds[base])
        link_fd(self._fds[slot], os.fsdecode(path))

    # --- attributes and content --------------------------------------------------------------

    def stat(self, base: int, path: bytes) -> Any:
        return _shown(os.stat(path, dir_fd=self._fds[base], follow_symlinks=False))

    def chmod(self, base: int, path: bytes, mode: int) -> None:
        os.chmod(path, mode, dir_fd=self._fds[base])

    def held_chmod(self, slot: int, mode: int) -> None:
        os.chmod(b"/proc/self/fd/%d" % self._fds[slot], mode)  # of O_PATH descriptors, too

    def held_write(self, slot: int, offset: int, fill: int, length: int) -> int:
        return os.pwrite(self._fds[slot], pattern(fill, length), offset)

    def held_truncate(self, slot: int, size: int) -> None:
        os.ftruncate(self._fds[slot], size)

    def held_read(self, slot: int) -> Any:
        return digest(os.pread(self._fds[slot], 1 << 20, 0))

    def held_list(self, slot: int) -> list[tuple[bytes, int]]:
        os.lseek(self._fds[slot], 0, os.SEEK_SET)
        return sorted((entry.name, entry.kind) for entry in kernel.getdents(self._fds[slot]))

    def working(self, slot: int) -> list[Any]:
        """Go to a directory that is held: getcwd(3), what is in it and above it, and a new file."""
        os.fchdir(self._fds[slot])
        above = b"." if self._is_root(slot) else b".."
        asked: Sequence[Callable[[], Any]] = (
            lambda: os.getcwdb().replace(self.root, b"", 1),
            lambda: sorted(os.listdir(b".")),
            lambda: sorted(os.listdir(above)),
            lambda: os.close(os.open(b"new", os.O_CREAT | os.O_WRONLY, 0o600)),
            lambda: os.path.exists(above + b"/new"),
        )
        return [answer_of(ask) for ask in asked]


def _facts(fd: int) -> Any:
    st = os.fstat(fd)
    return (*_shown(st), min(st.st_nlink, 1)) if stat.S_ISDIR(st.st_mode) else _shown(st)


def _shown(st: os.stat_result) -> tuple[Any, ...]:
    if stat.S_ISDIR(st.st_mode):
        return oct(st.st_mode), st.st_uid
    return oct(st.st_mode), st.st_uid, st.st_size, st.st_nlink


def _clear(fd: int) -> None:
    for name in sorted(os.listdir(fd)):
        if not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=fd)
            continue
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        try:
            _clear(below)
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=fd)


class Chooser:
    """Random steps: mostly renames and opening, of what is there in the tree of a ``Holder``."""

    def __init__(self, rng: random.Random, there: Holder, *, nameless: bool = True) -> None:
        """*nameless*: O_TMPFILE is possible."""
        self._rng, self._there = rng, there
        self._flags = _FLAGS if nameless else _FLAGS[:-1]
        self._made = self._steps()
        self._weights = [weight for weight, _ in self._made.values()]

    def step(self) -> Step:
        (kind,) = self._rng.choices(list(self._made), self._weights)
        return kind, *self._made[kind][1]()

    def _steps(self) -> dict[str, tuple[int, Callable[[], tuple[Any, ...]]]]:
        pick = self._rng.choice
        base, slot, old, new = self._base, self._slot, self._old, self._new
        sizes = (0, 50, 7000)
        return {
            "open": (8, lambda: (slot(), *old(), pick(self._flags))),
            "create": (2, lambda: (slot(), *new())),
            "reopen": (2, lambda: (slot(), base(), pick(_FLAGS[:5]))),
            "up": (2, lambda: (slot(), base())),
            "mkdir": (4, new),
            "rmdir": (2, old),
            "unlink": (3, old),
            "clear": (1, old),
            "rename": (6, lambda: (*old(), *new(), pick(_RENAMES))),
            "rename_over": (6, lambda: (*old(), *old(), pick(_RENAMES))),
            "link": (2, lambda: (*old(), *new())),
            "link_held": (2, lambda: (slot(), *new())),
            "stat": (2, old),
            "chmod": (1, lambda: (*old(), pick(_MODES))),
            "held_chmod": (2, lambda: (slot(), pick(_MODES))),
            "held_write": (3, lambda: (slot(), pick(sizes), self._rng.randrange(256), 100)),
            "held_truncate": (1, lambda: (slot(), pick(sizes))),
            "held_read": (2, lambda: (slot(),)),
            "held_list": (3, lambda: (slot(),)),
            "working": (1, lambda: (slot(),)),
        }

    def _base(self) -> int:
        if self._rng.random() < 0.05:
            return self._slot()  # nothing, or no directory
        return self._rng.choice((0, *self._there.directories()))

    def _slot(self) -> int:
        return self._rng.randrange(1, SLOTS)

    def _old(self) -> tuple[int, bytes]:
        """Return where something is, as a directory and a path from there."""
        base = self._base()
        names = self._there.way_down(base, self._rng)
        return base, b"/".join(names) or self._rng.choice(NAMES)

    def _new(self) -> tuple[int, bytes]:
        """Return where nothing is, most of the time."""
        base = self._base()
        names = self._there.way_down(base, self._rng)[:-1]
        return base, b"/".join((*names, self._rng.choice(NAMES)))
