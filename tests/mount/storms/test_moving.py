"""Directories that move about while others work in them: none is lost, nor what was made inside.

Some processes rename merged directories among a few places (never over one another); others hold
descriptors of them and make, copy up and remove in them. Where each directory is in the end nobody
can say, but there is exactly one of each, and in it all that was acknowledged.
"""

from __future__ import annotations

import errno
import mmap
import os
import random
from contextlib import ExitStack

import pytest

from tests.support import kernel, trees
from tests.support.examples import FULL
from tests.support.files import opened, read
from tests.support.fixtures import compared
from tests.support.stacks import Dir, Entry, File, build_stack
from tests.support.storm import in_processes

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

TURNS = 4000 if FULL else 150
MOVED = 6
PLACES = (b"", b"/one", b"/two", b"/two/deep")
FILES = 20
_MAY_BE = (errno.ENOENT, errno.EEXIST, errno.EINVAL, errno.ENOTEMPTY)


def _layers() -> list[list[Entry]]:
    bottom: list[Entry] = [Dir(place[1:]) for place in PLACES if place]
    top: list[Entry] = []
    for number in range(MOVED):
        bottom.append(File(b"moved-%d/of" % number, b"%d" % number, 1))
        bottom += [File(b"moved-%d/in/%d" % (number, n), b"low", 3) for n in range(FILES)]
        top.append(File(b"moved-%d/in/top" % number))
    return [bottom, top]


def _move(root: bytes, own: int, ended: mmap.mmap) -> None:
    """Move any directory anywhere, by renames that replace nothing, until *ended*."""
    rand = random.Random(own)
    while not ended[0]:
        old, new = (
            root + rand.choice(PLACES) + b"/moved-%d" % rand.randrange(MOVED) for _ in range(2)
        )
        flags = rand.choice((kernel.RENAME_NOREPLACE, kernel.RENAME_EXCHANGE))
        try:
            kernel.renameat2(old, new, flags)
        except OSError as error:
            assert error.errno in _MAY_BE, error


def _work(fds: list[int], own: int) -> None:
    """Change what is inside, by descriptors: no move may make that fail, or go elsewhere."""
    rand = random.Random(own)
    for turn in range(TURNS):
        fd = rand.choice(fds)
        new = b"in/new-%d-%d" % (own, turn)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=fd))
        os.rename(new, b"made-%d-%d" % (own, turn), src_dir_fd=fd, dst_dir_fd=fd)
        number = turn % FILES
        with open(os.open(b"in/%d" % number, os.O_WRONLY, dir_fd=fd), "wb") as file:
            file.write(b"new")
        os.mkdir(b"dir-%d" % own, dir_fd=fd)
        os.rmdir(b"dir-%d" % own, dir_fd=fd)
        with opened(b".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd) as own_fd:  # own position
            assert b"in" in {entry.name for entry in kernel.getdents(own_fd)}


def _check(root: bytes) -> None:
    found = {}
    for folder, dirs, _files in os.walk(root):
        for name in dirs:
            if name.startswith(b"moved-"):
                path = os.path.join(folder, name)
                which = read(path + b"/of")
                assert which not in found, f"{path!r} is there twice"
                found[which] = path
    assert set(found) == {b"%d" % number for number in range(MOVED)}
    made: list[bytes] = []
    for path in found.values():
        assert set(os.listdir(path + b"/in")) == {b"top", *(b"%d" % n for n in range(FILES))}
        assert {read(path + b"/in/%d" % n) for n in range(FILES)} <= {b"low", b"new"}
        made += [name for name in os.listdir(path) if name.startswith(b"made-")]
        assert not [name for name in os.listdir(path) if name.startswith(b"dir-")]
    assert sorted(made) == sorted(b"made-%d-%d" % (own, t) for own in (2, 3) for t in range(TURNS))


@compared
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("pure", [False, True], ids=["extension", "pure"])
def test_nothing_is_lost_in_directories_that_move(scratch, union, again, pure):
    layers = build_stack(scratch + b"/s", _layers())
    env = {"UNIONFS_PURE": "1"} if pure else {}
    mounted = union(layers, env=env)
    with ExitStack() as stack:
        folders = [mounted.root + b"/moved-%d" % number for number in range(MOVED)]
        _storm(
            mounted.root,
            [stack.enter_context(opened(f, os.O_RDONLY | os.O_DIRECTORY)) for f in folders],
        )
    _check(mounted.root)
    ours = trees.snapshot(mounted.root)
    mounted.unmount()
    trees.assert_same(ours, trees.snapshot(again(layers).root), ("union", "kernel"))


def _storm(root: bytes, fds: list[int]) -> None:
    ended, working = mmap.mmap(-1, 1), mmap.mmap(-1, 2)

    def do(own: int) -> None:
        if own < 2:
            _move(root, own, ended)
            return
        try:
            _work(fds, own)
        finally:
            working[own - 2] = 1
            ended[0] = working[0] and working[1]

    in_processes(do, 4)
