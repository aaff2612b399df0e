"""Copy-ups that several processes start at once: what each was told is done is there at the end.

Every process has aspects of the same lower files for itself (bytes, an attribute, a name), so the
state at the end is known whatever the order; in between nobody may see less than what is sure.
"""

from __future__ import annotations

import itertools
import os

import pytest

from tests.support.examples import FULL
from tests.support.files import opened, read
from tests.support.fixtures import compared
from tests.support.stacks import Dir, Entry, File, Link, build_stack
from tests.support.storm import StartingLine, in_processes

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

WORKERS = 4
FILES = 600 if FULL else 40
SIZE = 300_000  # copied in a thread, so that others come in between
_BLOCK = 4096


def _layers() -> list[list[Entry]]:
    """Files of two layers, each with two more names in other directories, and links' targets."""
    bottom: list[Entry] = [Dir(b"one"), Dir(b"two"), Dir(b"new")]
    for number in range(FILES):
        bottom += [
            File(b"one/%d" % number, b"low ", SIZE),
            Link(b"one/same%d" % number, b"one/%d" % number),
            Link(b"two/%d" % number, b"one/%d" % number),
            File(b"deep/%d/down/f" % number, b"low ", SIZE),
        ]
    return [bottom, [Dir(b"two", 0o711)]]


class _Worker:
    """What process *own* does to file *number*: all of it has to be there at the end."""

    def __init__(self, root: bytes, own: int) -> None:
        self.root, self.own = root, own
        self.names = itertools.cycle((b"one/%d", b"one/same%d", b"two/%d"))
        for _ in range(own):
            next(self.names)

    def change(self, number: int) -> None:
        steps = [self._write, self._attribute, self._link, self._flag, self._inside]
        for step in steps[self.own :] + steps[: self.own]:
            step(self.root + b"/" + next(self.names) % number, number)

    def _write(self, path: bytes, _number: int) -> None:
        with opened(path, os.O_RDWR) as fd:
            os.pwrite(fd, b"%04d" % self.own, self.own * _BLOCK)
            assert os.pread(fd, 4, self.own * _BLOCK) == b"%04d" % self.own
            assert os.pread(fd, 4, SIZE - 100) == b"low "  # whoever copies: never short

    def _attribute(self, path: bytes, _number: int) -> None:
        os.setxattr(path, b"user.of-%d" % self.own, b"%d" % self.own)
        assert os.getxattr(path, b"user.of-%d" % self.own) == b"%d" % self.own

    def _link(self, path: bytes, number: int) -> None:
        new = self.root + b"/new/%d-%d" % (number, self.own)
        os.link(path, new)
        assert os.lstat(new).st_ino == os.lstat(path).st_ino

    def _flag(self, path: bytes, _number: int) -> None:
        os.chmod(path, 0o600)
        assert os.lstat(path).st_mode & 0o777 == 0o600

    def _inside(self, _path: bytes, number: int) -> None:
        """A file far down, whose directories are all copied up by whoever comes first."""
        down = self.root + b"/deep/%d/down" % number
        os.mkdir(down + b"/of-%d" % self.own)
        with opened(down + b"/f", os.O_WRONLY) as fd:
            os.pwrite(fd, b"%04d" % self.own, self.own * _BLOCK)
        os.rename(down + b"/of-%d" % self.own, down + b"/renamed-%d" % self.own)


def _check(root: bytes) -> None:
    written = bytearray((b"low " * SIZE)[:SIZE])
    for own in range(WORKERS):
        written[own * _BLOCK : own * _BLOCK + 4] = b"%04d" % own
    for number in range(FILES):
        names = [b"one/%d" % number, b"one/same%d" % number, b"two/%d" % number]
        names += [b"new/%d-%d" % (number, own) for own in range(WORKERS)]
        stats = {(st.st_ino, st.st_nlink, st.st_mode & 0o777) for st in _stats(root, names)}
        assert len(stats) == 1, f"{names} are not one file: {stats}"
        assert stats.pop()[1:] == (len(names), 0o600)
        path = root + b"/" + names[number % len(names)]
        assert read(path) == written
        assert {b"user.of-%d" % own for own in range(WORKERS)} <= set(
            map(os.fsencode, os.listxattr(path))
        )
        down = root + b"/deep/%d/down" % number
        assert read(down + b"/f") == written
        assert set(os.listdir(down)) == {b"f", *(b"renamed-%d" % own for own in range(WORKERS))}


def _stats(root: bytes, names: list[bytes]) -> list[os.stat_result]:
    return [os.lstat(root + b"/" + name) for name in names]


@compared
@pytest.mark.parametrize("pure", [False, True], ids=["extension", "pure"])
def test_every_change_of_every_process_is_there(scratch, union, again, pure):
    layers = build_stack(scratch + b"/s", _layers())
    env = {"UNIONFS_PURE": "1"} if pure else {}
    mounted = union(layers, env=env)
    line = StartingLine(WORKERS)

    def work(own: int) -> None:
        worker = _Worker(mounted.root, own)
        for number in range(FILES):
            line.wait(own, number + 1)
            worker.change(number)

    in_processes(work, WORKERS)
    _check(mounted.root)
    mounted.unmount()
    _check(again(layers).root)


def test_a_thousand_new_files_keep_their_content(scratch, union):
    """More than the daemon keeps open: what it knew of a file before it was written is old."""
    root = union(build_stack(scratch + b"/s", [[Dir(b"d")]])).root
    count = 1500
    for number in range(count):
        with opened(root + b"/d/%d" % number, os.O_WRONLY | os.O_CREAT) as fd:
            os.write(fd, b"content")
    assert {entry.stat().st_size for entry in os.scandir(root + b"/d")} == {7}
    assert all(read(root + b"/d/%d" % number) == b"content" for number in range(count))
