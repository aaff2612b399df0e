"""Directories are listed while several processes change them and what is around them.

readdir(3): a name that is there from before opendir to after closedir is listed once. So is one
that changes only in itself, being copied up, and one in a directory that moves. A name that went
before is not listed.
"""

from __future__ import annotations

import mmap
import os
import random
import stat

import pytest

from tests.support import kernel
from tests.support.examples import FULL
from tests.support.files import opened, read, write
from tests.support.stacks import ORDINARY, Dir, Entry, File, Symlink, Whiteout, build_stack
from tests.support.storm import in_processes

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

READS = 1500 if FULL else 60
STAY = 150
_KINDS = {stat.S_IFREG: 8, stat.S_IFDIR: 4, stat.S_IFLNK: 10}


def _layers() -> list[list[Entry]]:
    layers: list[list[Entry]] = [[Dir(b"parent")], [], []]
    for number in range(STAY):
        name = b"parent/d/stay-%d-" % number + b"x" * (number % 60)
        kind = (File, Dir, Symlink, File)[number % 4]
        layers[number % 3].append(kind(name))
        layers[0].append(File(b"parent/d/go-%d" % number))
        layers[0].append(File(b"parent/d/never-%d" % number))
        layers[1].append(Whiteout(b"parent/d/never-%d" % number))
    return layers


def _opened_anew(directory: int) -> int:
    """Open *directory* for this process; not by its path, as others may be moving it already."""
    return os.open(b".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)


class _Churn:
    """One process's changes of the directory, until *ended*."""

    def __init__(self, root: bytes, listed: int, own: int, ended: mmap.mmap) -> None:
        self.root, self.own, self.ended = root, own, ended
        self.rand = random.Random(own)
        self.fd = _opened_anew(listed)
        self.stay = sorted(
            name for name in map(os.fsencode, os.listdir(self.fd)) if name[:4] == b"stay"
        )

    def run(self) -> None:
        changes = [self._come_and_go, self._change_in_itself, self._remove, self._look]
        if self.own == 0:
            changes.append(self._move_the_directory)
        while not self.ended[0]:
            self.rand.choice(changes)()

    def _come_and_go(self) -> None:
        name = b"new-%d-%d" % (self.own, self.rand.randrange(30))
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=self.fd))
        other = b"moved-%d-%d" % (self.own, self.rand.randrange(30))
        os.rename(name, other, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        if self.rand.random() < 0.8:
            os.unlink(other, dir_fd=self.fd)

    def _change_in_itself(self) -> None:
        name = self.rand.choice(self.stay)
        st = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        if stat.S_ISLNK(st.st_mode):
            owner = -1 if ORDINARY else self.own
            os.chown(name, owner, -1, dir_fd=self.fd, follow_symlinks=False)
        else:
            os.chmod(name, 0o700 | self.own, dir_fd=self.fd)
        if stat.S_ISDIR(st.st_mode):
            inside = name + b"/of-%d" % self.own
            os.mkdir(inside, dir_fd=self.fd)
            os.rmdir(inside, dir_fd=self.fd)

    def _remove(self) -> None:
        try:
            os.unlink(b"go-%d" % self.rand.randrange(STAY), dir_fd=self.fd)
        except FileNotFoundError:
            pass

    def _look(self) -> None:
        os.listdir(self.fd)

    def _move_the_directory(self) -> None:
        for old, new in ((b"/parent/d", b"/moved"), (b"/moved", b"/parent/d")):
            os.rename(self.root + old, self.root + new)


class _Reader:
    """Lists the directory in pieces of every size, and knows what has to be in each listing."""

    def __init__(self, listed: int, own: int) -> None:
        self.rand = random.Random(100 + own)
        self.own = own
        self.fd = _opened_anew(listed)
        self.stay = {
            name: os.stat(name, dir_fd=self.fd, follow_symlinks=False)
            for name in map(os.fsencode, os.listdir(self.fd))
            if name[:4] == b"stay"
        }

    def run(self) -> None:
        assert len(self.stay) == STAY
        for number in range(READS):
            mine, gone = b"mine-%d-%d" % (self.own, number), b"mine-%d-%d" % (self.own, number - 1)
            os.close(os.open(mine, os.O_CREAT | os.O_WRONLY, dir_fd=self.fd))
            if number:
                os.unlink(gone, dir_fd=self.fd)
            self._judge(self._list(), mine, gone)

    def _list(self) -> list[kernel.Dirent]:
        """List through a new open directory or, rewound, the one that is open all the time."""
        size = self.rand.choice((512, 1024, 4096, 32768))
        if self.rand.random() < 0.5:
            os.lseek(self.fd, 0, os.SEEK_SET)
            return kernel.getdents(self.fd, size=size)
        again = os.open(b".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.fd)
        try:
            return kernel.getdents(again, size=size)
        finally:
            os.close(again)

    def _judge(self, found: list[kernel.Dirent], mine: bytes, gone: bytes) -> None:
        names = [entry.name for entry in found]
        twice = {name for name in names if names.count(name) > 1}
        assert not twice, f"listed twice: {twice}"
        listed = {entry.name: entry for entry in found}
        lost = (self.stay.keys() | {mine}) - listed.keys()
        assert not lost, f"not listed: {lost}"
        assert gone not in listed, "a name that went before is listed"
        assert not any(name.startswith((b"never", b".wh.")) for name in names)
        for name, st in self.stay.items():
            entry = listed[name]
            assert (entry.ino, entry.kind) == (st.st_ino, _KINDS[stat.S_IFMT(st.st_mode)]), name


@pytest.mark.parametrize("pure", [False, True], ids=["extension", "pure"])
def test_what_stays_is_listed_once(scratch, union, pure):
    env = {"UNIONFS_PURE": "1"} if pure else {}
    root = union(build_stack(scratch + b"/s", _layers()), env=env).root
    ended = mmap.mmap(-1, 1)

    with opened(root + b"/parent/d", os.O_RDONLY | os.O_DIRECTORY) as listed:

        def work(own: int) -> None:
            if own >= 2:
                _Churn(root, listed, own - 2, ended).run()
                return
            try:
                _Reader(listed, own).run()
            finally:
                ended[0] = 1

        in_processes(work, 5)
    names = os.listdir(root + b"/parent/d")
    assert len(names) == len(set(names))
    assert sum(name.startswith(b"stay") for name in names) == STAY


def test_positions_stay_good(scratch, union):
    """telldir(3) before, seekdir(3) after many changes: what follows is what followed then."""
    d = union(build_stack(scratch + b"/s", _layers())).root + b"/parent/d"
    with opened(d, os.O_RDONLY | os.O_DIRECTORY) as fd:
        before = [entry.name for entry in kernel.getdents_once(fd, 2048)]
        position = os.lseek(fd, 0, os.SEEK_CUR)
        rest = [entry.name for entry in kernel.getdents(fd, size=1024)]
        for number in range(0, STAY, 2):
            os.unlink(d + b"/go-%d" % number)
            write(d + b"/new-%d" % number, b"")
            os.listdir(d)
        os.lseek(fd, position, os.SEEK_SET)
        after = [entry.name for entry in kernel.getdents(fd, size=1024)]
    there = set(os.listdir(d))
    assert [name for name in after if name[:3] != b"new"] == [n for n in rest if n in there]
    assert not set(before) & set(after)


def _before(fd: int, name: bytes) -> list[bytes]:
    """Read the names before *name* from a directory in small pieces, and not as far as that."""
    found = [entry.name for entry in kernel.getdents_once(fd, 512)]
    assert name not in found
    return found


def test_a_name_that_goes_and_comes_between_the_pieces_of_two_readers(scratch, union):
    """One read on while it was gone, and the kernel kept that; the other, who began when it was
    back, was sent on there. The names were the same whenever somebody began.
    """
    files = [File(b"d/%04d" % number) for number in range(400)]
    d = union(build_stack(scratch + b"/s", [files, files[:1]])).root + b"/d"
    order = os.listdir(d)
    name, after = order[150], order[250]
    for _ in range(2):  # it keeps its place in listings, and is the latest of the names
        os.unlink(d + b"/" + name)
        os.listdir(d)
        write(d + b"/" + name, b"")
        os.listdir(d)
    with (
        opened(d, os.O_RDONLY | os.O_DIRECTORY) as first,
        opened(d, os.O_RDONLY | os.O_DIRECTORY) as second,
    ):
        write(d + b"/other", b"")
        os.unlink(d + b"/other")
        read_by_first = _before(first, name)
        os.unlink(d + b"/" + name)
        while after not in read_by_first:
            read_by_first += [entry.name for entry in kernel.getdents_once(first, 512)]
        assert name not in read_by_first
        write(d + b"/" + name, b"")
        read_by_second = _before(second, name)
        kernel.getdents(first)
        read_by_second += [entry.name for entry in kernel.getdents(second)]
    assert sorted(read_by_second) == sorted([b".", b"..", *order])


def test_files_stay_what_they_are_while_several_directories_change_and_are_listed(scratch, union):
    """Of two listings under way one was forgotten: its marks for the extension went to the kernel,
    which took them for a sign that known files are others now, and answers EIO for those.
    """
    files = [File(b"%d/%d" % (folder, number)) for folder in range(4) for number in range(40)]
    root = union(build_stack(scratch + b"/s", [files])).root

    def work(own: int) -> None:
        rand = random.Random(own)
        for _ in range(2 * READS):
            folder = root + b"/%d" % rand.randrange(4)
            write(folder + b"/new-%d" % own, b"")
            assert read(folder + b"/%d" % rand.randrange(40))
            os.listdir(folder)
            os.unlink(folder + b"/new-%d" % own)

    in_processes(work, 4)
