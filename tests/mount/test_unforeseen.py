"""An exception that nobody foresaw, in any operation: EIO to the caller, and the mount lives on.

In pyfuse3 anything but FUSEError ends the main loop, and with it a container's root (DESIGN 2.5).
"""

from __future__ import annotations

import errno
import os
import sys

import pytest

from tests.support.files import as_user, opened, read, refused, write
from tests.support.stacks import Dir, File, Symlink, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


@pytest.fixture
def faulty(scratch, union):
    """A mount, and a function that makes an operation fail (None: none)."""
    layers = build_stack(
        scratch + b"/s",
        [[File(b"f"), File(b"g"), Symlink(b"l"), Dir(b"d"), Dir(b"e"), File(b"old"), Dir(b"h/i")]],
    )
    fault = scratch + b"/fault"
    write(fault, b"")
    program = [sys.executable, "-m", "tests.support.faulty"]
    # Without the extension every operation is asked for: with it, open and opendir are not.
    env = {"UNIONFS_TEST_FAULT": os.fsdecode(fault), "UNIONFS_PURE": "1"}
    mounted = union(layers, program=program, env=env)
    mounted.expect_errors = True

    def fail(name: str | None) -> None:
        write(fault, (name or "").encode())

    return mounted, fail


def _open_and(path: bytes, flags: int, action) -> None:
    with opened(path, flags) as fd:
        action(fd)


CALLS = {
    "lookup": lambda r: os.lstat(r + b"/e"),
    "setattr": lambda r: os.chmod(r + b"/f", 0o600),
    "readlink": lambda r: os.readlink(r + b"/l"),
    "mknod": lambda r: os.mkfifo(r + b"/new"),
    "mkdir": lambda r: os.mkdir(r + b"/new"),
    "unlink": lambda r: os.unlink(r + b"/f"),
    "rmdir": lambda r: os.rmdir(r + b"/d"),
    "symlink": lambda r: os.symlink(b"x", r + b"/new"),
    "rename": lambda r: os.rename(r + b"/f", r + b"/new"),
    "link": lambda r: os.link(r + b"/f", r + b"/new"),
    "create": lambda r: os.close(os.open(r + b"/new", os.O_CREAT | os.O_WRONLY)),
    "open": lambda r: write(r + b"/f", b"new"),
    "read": lambda r: read(r + b"/g"),
    "write": lambda r: _open_and(r + b"/f", os.O_WRONLY, lambda fd: os.write(fd, b"new")),
    "fsync": lambda r: _open_and(r + b"/f", os.O_RDWR, os.fsync),
    "fsyncdir": lambda r: _open_and(r + b"/d", os.O_RDONLY, os.fsync),
    "readdir": lambda r: os.listdir(r + b"/h"),
    "statfs": lambda r: os.statvfs(r),
    "setxattr": lambda r: os.setxattr(r + b"/f", "user.x", b"1"),
    "getxattr": lambda r: os.getxattr(r + b"/f", "user.x"),
    "listxattr": lambda r: os.listxattr(r + b"/f"),
    "removexattr": lambda r: os.removexattr(r + b"/f", "user.x"),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_caller_gets_eio_and_the_mount_lives(faulty, name):
    mounted, fail = faulty
    fail(name)
    with refused(errno.EIO):
        CALLS[name](mounted.root)
    fail(None)
    log = mounted.logged()
    assert b"UnforeseenError" in log
    assert b"Traceback" in log
    assert sorted(os.listdir(mounted.root)) == [b"d", b"e", b"f", b"g", b"h", b"l", b"old"]
    os.lstat(mounted.root + b"/e")
    assert read(mounted.root + b"/f") == read(mounted.root + b"/g") == b"x" * 10
    write(mounted.root + b"/f", b"goes on")
    assert read(mounted.root + b"/f") == b"goes on"


def test_where_nobody_hears_of_it(faulty):
    """release, releasedir and forget have no caller: the mount lives on."""
    mounted, fail = faulty
    for name in ("release", "releasedir", "forget"):
        fail(name)
        read(mounted.root + b"/g")
        os.listdir(mounted.root + b"/d")
        write(mounted.root + b"/temporary", b"x")
        os.unlink(mounted.root + b"/temporary")
        fail(None)
        assert read(mounted.root + b"/f") == b"x" * 10


def test_getattr(faulty):
    """The root's attributes are asked for by whoever comes first."""
    mounted, fail = faulty
    fail("getattr")
    os.utime(mounted.root + b"/f")  # what the kernel knew of it is not true any more
    failed = as_user(lambda: [os.stat(mounted.root + n) for n in (b"/f", b"/d", b"")], uid=0, gid=0)
    fail(None)
    assert failed in (0, errno.EIO)
    assert os.stat(mounted.root + b"/f").st_size == 10
