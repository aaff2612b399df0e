"""Random changes of names of files with several, beside a plain directory that does the same.

The kernel is played by ``World``: here names are looked up only when they are used, numbers are
forgotten at any time, and mounts end at any time. So a file may lose the names that are known while
others, which nobody has looked up, are still there.
"""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from tests.support.examples import FULL
from tests.support.worlds import World

SEEDS = 2_000 if FULL else 60
STEPS = 150
DIRECTORIES = (b"x", b"y", b"own")
NAMES = tuple(b"%b/%d" % (folder, n) for folder in DIRECTORIES for n in range(3))
ACTIONS = (
    *("create", "link", "link", "unlink", "unlink", "unlink", "rename", "rename", "exchange"),
    *("write", "chmod", "look", "look", "open", "open", "close", "forget", "remount"),
)


class _Both:
    """The same changes in a union and in a plain directory."""

    def __init__(self, place: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.plain = os.fsencode(place / "plain") + b"/"
        self.lowers = (os.fsencode(place / "lower"),)
        self.folder = os.fsencode(place / "world")
        for root in (self.plain, self.lowers[0] + b"/"):
            self._make(root, random.Random(seed))
        self.world = World(self.folder, self.lowers, descriptors=32)
        self.world.mkdir(b"own")
        os.mkdir(self.plain + b"own")
        self.open: dict[int, int] = {}  # number of an open file: descriptor in the plain directory

    def _make(self, root: bytes, chance: random.Random) -> None:
        for folder in DIRECTORIES[:2]:
            os.makedirs(root + folder)
        there: list[bytes] = []
        for name in chance.sample(NAMES[:6], 5):
            if there and chance.random() < 0.6:
                os.link(root + chance.choice(there), root + name)
            else:
                with open(root + name, "wb") as file:
                    file.write(b"lower " + name)
            there.append(name)

    def step(self) -> None:
        """Do one thing, here and there; both succeed, or both fail for the same reason."""
        name, other = self.random.choice(NAMES), self.random.choice(NAMES)
        what = self.random.choice(ACTIONS)
        getattr(self, "_" + what)(name, other)

    def _same(self, ours, theirs) -> None:
        assert _errno(ours) == _errno(theirs)

    def _create(self, name: bytes, _other: bytes) -> None:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        self._same(
            lambda: self.world.create(name),
            lambda: os.close(os.open(self.plain + name, flags, 0o644)),
        )

    def _link(self, name: bytes, other: bytes) -> None:
        if not os.path.exists(self.plain + other):  # else the kernel has answered already
            self._same(
                lambda: self.world.link(name, other),
                lambda: os.link(self.plain + name, self.plain + other),
            )

    def _unlink(self, name: bytes, _other: bytes) -> None:
        self._same(lambda: self.world.unlink(name), lambda: os.unlink(self.plain + name))

    def _rename(self, name: bytes, other: bytes) -> None:
        self._same(
            lambda: self.world.rename(name, other),
            lambda: os.rename(self.plain + name, self.plain + other),
        )

    def _exchange(self, name: bytes, other: bytes) -> None:
        if not (os.path.exists(self.plain + name) and os.path.exists(self.plain + other)):
            return
        if not os.path.samefile(self.plain + name, self.plain + other):
            self.world.rename(name, other, 2)
            os.rename(self.plain + name, self.plain + b"aside")
            os.rename(self.plain + other, self.plain + name)
            os.rename(self.plain + b"aside", self.plain + other)

    def _write(self, name: bytes, _other: bytes) -> None:
        data = b"%d" % self.random.randrange(1 << 30)
        if os.path.exists(self.plain + name):
            self.world.write(name, data)
            with open(self.plain + name, "r+b") as file:
                file.write(data)

    def _chmod(self, name: bytes, _other: bytes) -> None:
        mode = self.random.choice((0o600, 0o640, 0o604))
        self._same(
            lambda: self.world.setattr(name, mode=mode), lambda: os.chmod(self.plain + name, mode)
        )

    def _look(self, name: bytes, other: bytes) -> None:
        for each in (name, other):
            self._same(lambda each=each: self.world.lookup(each), lambda each=each: self._st(each))
            if os.path.exists(self.plain + each):
                attr, st = self.world.getattr(each), self._st(each)
                assert (attr.st_nlink, attr.st_mode) == (st.st_nlink, st.st_mode)
                assert self.world.read(each) == _read(self.plain + each)

    def _st(self, name: bytes) -> os.stat_result:
        return os.stat(self.plain + name)

    def _open(self, name: bytes, _other: bytes) -> None:
        if os.path.exists(self.plain + name):
            ino = self.world.lookup(name)
            if ino not in self.open:
                self.open[ino] = os.open(self.plain + name, os.O_RDWR)

    def _close(self, _name: bytes, _other: bytes) -> None:
        if self.open:
            ino = self.random.choice(list(self.open))
            attr, st = self.world.do("getattr", ino, None), os.fstat(self.open[ino])
            assert (attr.st_nlink, attr.st_mode) == (st.st_nlink, st.st_mode)
            os.close(self.open.pop(ino))

    def _forget(self, _name: bytes, _other: bytes) -> None:
        """The kernel lets go of what nobody has open: files first, then directories."""
        nodes = [node for node in self.world.ops.inodes._nodes.values() if node.parent is not None]
        for node in sorted(nodes, key=lambda node: node.is_dir):
            if node.ino not in self.open and self.random.random() < 0.7:
                if node.is_dir and any(child.nlookup for child in (node.children or {}).values()):
                    continue
                self.world.do("forget", [(node.ino, node.nlookup)])

    def _remount(self, _name: bytes, _other: bytes) -> None:
        while self.open:
            self._close(b"", b"")
        if self.random.random() < 0.5:
            self.world.close()
        else:
            self.world.abandon()
        self.world = World(self.folder, self.lowers, descriptors=32)

    def check_descriptors(self) -> None:
        """Only a file that has no name, and that the kernel refers to, may cost a descriptor."""
        for node in self.world.nodes():
            assert node.anchor < 0 or (node.dead and node.nlookup), node

    def empty(self) -> None:
        """Remove every name; then nothing may be left of any copy."""
        self._remount(b"", b"")
        for name in NAMES:
            self._unlink(name, b"")
        self.world.close()
        index = self.folder + b"/work/index"
        assert not os.path.exists(index) or os.listdir(index) == []
        assert os.listdir(self.folder + b"/work/work") == []

    def compare(self) -> None:
        """Everything that can be seen, and which names are one file."""
        theirs = {}
        for name in NAMES:
            if os.path.exists(self.plain + name):
                st = self._st(name)
                theirs[name] = (st.st_nlink, st.st_mode, _read(self.plain + name))
        dump = self.world.dump()
        ours = {name: dump[name] for name in NAMES if name in dump}
        assert {n: (s.nlink, s.mode, s.content) for n, s in ours.items()} == theirs
        numbers = self.world.numbers()
        for name in ours:
            same = {other for other in ours if numbers[other] == numbers[name]}
            number = self._st(name).st_ino
            assert same == {other for other in ours if self._st(other).st_ino == number}


def _errno(call) -> int:
    try:
        call()
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _read(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.needs_root
@pytest.mark.usefixtures("inline")
@pytest.mark.timeout(3600 if FULL else 300)
def test_files_with_several_names(tmp_path: Path) -> None:
    for seed in range(SEEDS):
        place = tmp_path / f"{seed}"
        place.mkdir()
        both = _Both(place, seed)
        try:
            for _ in range(STEPS):
                both.step()
                both.check_descriptors()
            both.compare()
            both._remount(b"", b"")
            both.compare()
            both.empty()
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        finally:
            both.world.close()
            for fd in both.open.values():
                os.close(fd)
