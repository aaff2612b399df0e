"""An exception in any operation: an errno to the caller, and the mount lives on.

EIO where nobody foresaw it; that of a system call that failed.

In pyfuse3 anything but FUSEError ends the main loop, and with it a container's root (DESIGN 2.5).
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Callable

import pytest

from tests.support import faulty as program
from tests.support import kernel
from tests.support.files import as_user, opened, read, refused, write
from tests.support.stacks import Dir, File, Symlink, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


_PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602


@pytest.fixture
def faulty(scratch, union, request):
    """A mount, and a function that makes an operation fail (None: none), with an errno or without.

    Without the extension every operation is asked for: with it, open and opendir are not.
    """
    layers = build_stack(
        scratch + b"/s",
        [[File(b"f"), File(b"g"), Symlink(b"l"), Dir(b"d"), Dir(b"e"), File(b"old"), Dir(b"h/i")]],
    )
    fault = scratch + b"/fault"
    write(fault, b"")
    pure = "0" if request.node.get_closest_marker("needs_extension") else "1"
    env = {"UNIONFS_TEST_FAULT": os.fsdecode(fault), "UNIONFS_PURE": pure}
    mounted = union(layers, program=[sys.executable, "-m", program.__name__], env=env)
    mounted.expect_errors = True

    def fail(name: str | None, *number: int) -> None:
        write(fault, " ".join(map(str, (name or "", *number))).encode())

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
    "flush": lambda r: os.close(os.open(r + b"/f", os.O_WRONLY)),
    "opendir": lambda r: os.listdir(r + b"/h"),
    "readdir": lambda r: os.listdir(r + b"/h"),
    "statfs": lambda r: os.statvfs(r),
    "setxattr": lambda r: os.setxattr(r + b"/f", "user.x", b"1"),
    "getxattr": lambda r: os.getxattr(r + b"/f", "user.x"),
    "listxattr": lambda r: os.listxattr(r + b"/f"),
    "removexattr": lambda r: os.removexattr(r + b"/f", "user.x"),
}


def _copy_range(root: bytes) -> None:
    with opened(root + b"/g", os.O_RDONLY) as source:
        _open_and(root + b"/f", os.O_WRONLY, lambda fd: os.copy_file_range(source, fd, 5))


def _set_flags(fd: int) -> None:
    fcntl.ioctl(fd, _FS_IOC_SETFLAGS, fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(8)))


CARRIED = {
    "fallocate": lambda r: _open_and(
        r + b"/f", os.O_WRONLY, lambda fd: kernel.fallocate(fd, 0, 0, 99)
    ),
    "lseek": lambda r: _open_and(r + b"/f", os.O_RDONLY, lambda fd: os.lseek(fd, 0, os.SEEK_HOLE)),
    "copy_file_range": _copy_range,
    "ioctl": lambda r: _open_and(r + b"/f", os.O_RDONLY, _set_flags),
    "tmpfile": lambda r: os.close(os.open(r + b"/d", os.O_TMPFILE | os.O_WRONLY)),
}
UNHEARD = ("release", "releasedir", "forget")
ELSEWHERE = ("access",)  # tests/unit/fuse/test_unforeseen.py


def test_no_operation_is_left_out():
    from unionfs.fuse.shared import SharedOperations

    asked = {*program.handlers(SharedOperations), *program.carried(_PROJECT)}
    assert asked == {*CALLS, *CARRIED, *UNHEARD, *ELSEWHERE, "getattr"}


@pytest.mark.parametrize("name", CALLS)
def test_the_caller_gets_eio_and_the_mount_lives(faulty, name):
    _fail_and_go_on(*faulty, name, CALLS[name])


@pytest.mark.needs_extension
@pytest.mark.parametrize("name", CARRIED)
def test_so_he_does_of_what_the_extension_brings(faulty, name):
    if name == "tmpfile" and kernel.release() < (6, 2):
        pytest.skip("O_TMPFILE reaches FUSE from Linux 6.2")
    _fail_and_go_on(*faulty, name, CARRIED[name])


def _fail_and_go_on(mounted, fail, name: str, call: Callable[[bytes], object]) -> None:
    fail(name, errno.EDQUOT)
    with refused(errno.EDQUOT):
        call(mounted.root)
    assert b"Traceback" not in mounted.logged()
    fail(name)
    with refused(errno.EIO):
        call(mounted.root)
    fail(None)
    log = mounted.logged()
    assert b"UnforeseenError" in log
    assert b"Traceback" in log
    assert sorted(os.listdir(mounted.root)) == [b"d", b"e", b"f", b"g", b"h", b"l", b"old"]
    os.lstat(mounted.root + b"/e")
    assert read(mounted.root + b"/f") == read(mounted.root + b"/g") == b"x" * 10
    if name in CARRIED:
        call(mounted.root)
    write(mounted.root + b"/f", b"goes on")
    assert read(mounted.root + b"/f") == b"goes on"


def test_where_nobody_hears_of_it(faulty):
    """release, releasedir and forget have no caller: the mount lives on."""
    mounted, fail = faulty
    for name in UNHEARD:
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
