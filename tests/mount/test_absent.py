"""Names that the extension knows to be absent, and that come to be (``unionfs/fuse/_absent.c``).

The kernel remembers names and absences by itself, so it is made to forget them before each look;
but not the directory, which would be shared anew: that is kept open.
"""

from __future__ import annotations

import errno
import os
import random
from contextlib import ExitStack

import pytest

from tests.support import kernel
from tests.support.files import opened, refused, write
from tests.support.stacks import Dir, File, build_stack
from unionfs.syscalls.at import RENAME_EXCHANGE, renameat2

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

_DIR = os.O_RDONLY | os.O_DIRECTORY
MANY = 70_000  # names, of which the extension keeps less than twice as many


def _forget(path: bytes) -> None:
    """Let the kernel forget the names of the mount that *path* is in, and of no other.

    A remount does that (reconfigure_super in fs/super.c); what is open is kept.
    """
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    kernel.mount(b"none", path, b"none", kernel.MS_REMOUNT)


def _there(path: bytes) -> bool:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


@pytest.fixture
def share():
    """Return what asks so often for absent names that the names of a directory are shared."""
    with ExitStack() as kept:

        def ask(folder: bytes) -> None:
            kept.enter_context(opened(folder, _DIR))
            _forget(folder)
            for number in range(4):
                assert not _there(folder + b"/never-%d" % number)

        yield ask


MAKERS = {
    "create": lambda path: write(path, b"x"),
    "mkdir": os.mkdir,
    "mkfifo": os.mkfifo,
    "mknod": lambda path: os.mknod(path, 0o600),
    "symlink": lambda path: os.symlink(b"nowhere", path),
    "link": lambda path: os.link(os.path.dirname(path) + b"/file", path),
    "rename": lambda path: os.rename(os.path.dirname(path) + b"/file", path),
    "rename a directory": lambda path: os.rename(os.path.dirname(path) + b"/sub", path),
}


@pytest.fixture
def root(scratch, union):
    files = [[Dir(b"d"), Dir(b"d/sub"), File(b"d/file"), File(b"other/file")], [File(b"d/sub/x")]]
    return union(build_stack(scratch + b"/s", files)).root


@pytest.mark.parametrize("name", MAKERS)
def test_what_was_absent_is_there_when_it_is_made(root, share, name):
    folder = root + b"/d"
    new = folder + b"/new"
    share(folder)
    assert not _there(new)
    MAKERS[name](new)
    _forget(root)
    assert _there(new)
    share(folder)
    os.rename(new, new + b"2")
    _forget(root)
    assert not _there(new)
    os.rename(new + b"2", new)
    _forget(root)
    assert _there(new)


def test_names_from_another_directory_and_exchanged_ones(root, share):
    here, there = root + b"/d", root + b"/other"
    share(here)
    share(there)
    os.rename(there + b"/file", here + b"/moved")
    _forget(root)
    assert _there(here + b"/moved") and not _there(there + b"/file")
    write(there + b"/second", b"2")
    with opened(here, _DIR) as a, opened(there, _DIR) as b:
        renameat2(a, b"moved", b, b"second", RENAME_EXCHANGE)
    _forget(root)
    assert _there(here + b"/moved") and _there(there + b"/second")


def test_a_directory_made_anew_has_none_of_the_old_ones_names(root, share):
    folder = root + b"/d/sub"
    share(folder)
    os.unlink(folder + b"/x")
    os.rmdir(folder)
    os.mkdir(folder)
    _forget(root)
    assert not _there(folder + b"/x")
    share(folder)
    write(folder + b"/x", b"")
    _forget(root)
    assert _there(folder + b"/x")


def test_a_name_that_is_too_long_is_not_just_absent(root, share):
    share(root + b"/d")
    with refused(errno.ENAMETOOLONG):
        os.lstat(root + b"/d/" + b"n" * 256)
    assert not _there(root + b"/d/" + b"n" * 255)


def test_more_names_than_are_kept(scratch, union, share):
    """Directories take each other's room, and none loses a name by it."""
    layers = build_stack(scratch + b"/s", [[Dir(b"%d" % number) for number in range(2)]])
    for number in range(2):
        folder = layers.lowers[0] + b"/%d" % number
        write(folder + b"/file", b"")
        for name in range(MANY):
            try:
                os.link(folder + b"/file", folder + b"/l%d" % name)
            except OSError:  # EMLINK: ext4 lets a file have 65,000 names
                os.unlink(folder + b"/file")
                write(folder + b"/file", b"")
    root = union(layers).root
    chance = random.Random(1)
    for turn in range(6):
        folder = root + b"/%d" % (turn % 2)
        share(folder)
        write(folder + b"/made-%d" % turn, b"")
        share(folder)
        _forget(root)
        for _ in range(50):
            assert _there(folder + b"/l%d" % chance.randrange(MANY))
        for made in range(turn % 2, turn + 1, 2):
            assert _there(folder + b"/made-%d" % made)
