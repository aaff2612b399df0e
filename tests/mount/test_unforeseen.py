"""An exception in any operation: its errno to the caller, or EIO; and the mount lives on.

In pyfuse3 anything but FUSEError ends the main loop, and with it a container's root (DESIGN 2.5).
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support import faulty, kernel
from tests.support.extension import FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, stats
from tests.support.files import opened, read, refused, write
from tests.support.stacks import Dir, File, Symlink, build_stack
from unionfs.fuse.shared import SharedOperations

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

Fail = Callable[..., None]


@pytest.fixture
def mounting(scratch, union):
    """Mount, and get a function that makes an operation fail (None: none), by errno or not."""
    words = [File(b"f"), File(b"g"), File(b"other"), Symlink(b"l"), Dir(b"d")]
    layers = build_stack(scratch + b"/s", [[*words, Dir(b"h/i")]])
    fault = scratch + b"/fault"
    write(fault, b"")

    def fail(name: str | None, number: int = 0) -> None:
        write(fault, f"{name or ''}{f' {number}' if number else ''}".encode())

    def mount(**env: str):
        env |= {faulty.FAULT: os.fsdecode(fault)}
        mounted = union(layers, program=[sys.executable, "-m", "tests.support.faulty"], env=env)
        mounted.expect_errors = True
        return mounted, fail

    return mount


@pytest.fixture
def faulty_mount(mounting):
    """Without the extension every operation is asked for: with it, open and opendir are not."""
    return mounting(UNIONFS_PURE="1")


def _open_and(path: bytes, flags: int, action: Callable[[int], object]) -> None:
    with opened(path, flags) as fd:
        action(fd)


def _copy_into(root: bytes, fd: int) -> None:
    with opened(root + b"/other", os.O_RDONLY) as source:
        os.copy_file_range(source, fd, 4, 0, 0)


def _seen_again(fd: int) -> None:
    os.write(fd, b"x")  # the kernel does not know the times any more
    os.fstat(fd)


CALLS = {
    "flush": lambda r: os.close(os.open(r + b"/f", os.O_RDONLY)),  # asked until there is no fault
    "lookup": lambda r: os.lstat(r + b"/absent"),
    "getattr": lambda r: _open_and(r + b"/other", os.O_WRONLY, _seen_again),
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
    "opendir": lambda r: os.listdir(r + b"/h"),
    "readdir": lambda r: os.listdir(r + b"/h"),
    "statfs": lambda r: os.statvfs(r),
    "setxattr": lambda r: os.setxattr(r + b"/f", "user.x", b"1"),
    "getxattr": lambda r: os.getxattr(r + b"/f", "user.x"),
    "listxattr": lambda r: os.listxattr(r + b"/f"),
    "removexattr": lambda r: os.removexattr(r + b"/f", "user.x"),
}

CARRIED = {
    "setattr": CALLS["setattr"],
    "setxattr": CALLS["setxattr"],
    "fallocate": lambda r: _open_and(
        r + b"/f", os.O_WRONLY, lambda fd: kernel.fallocate(fd, 0, 0, 4096)
    ),
    "lseek": lambda r: _open_and(r + b"/f", os.O_RDONLY, lambda fd: os.lseek(fd, 0, os.SEEK_HOLE)),
    "copy_file_range": lambda r: _open_and(r + b"/f", os.O_WRONLY, lambda fd: _copy_into(r, fd)),
    "ioctl": lambda r: [
        _open_and(r + b"/f", os.O_RDONLY, lambda fd, c=command: fcntl.ioctl(fd, c, bytes(8)))
        for command in (FS_IOC_GETFLAGS, FS_IOC_SETFLAGS)
    ],
    "tmpfile": lambda r: os.close(os.open(r, os.O_TMPFILE | os.O_WRONLY)),
}

UNHEARD = ("release", "releasedir", "forget")  # they have no caller
ELSEWHERE = ("access",)  # only where owners are kept aside: tests/unit/fuse/test_guarded.py


def test_every_operation_is_here():
    assert {name for name, _ in faulty.handlers(SharedOperations)} == {*CALLS, *UNHEARD, *ELSEWHERE}
    assert faulty.carried() == set(CARRIED)


def test_the_caller_is_told_and_the_mount_lives(faulty_mount):
    mounted, fail = faulty_mount
    wrong = [line for name in CALLS for line in _wrong(mounted, fail, name, CALLS[name])]
    assert not wrong, "\n".join(wrong)
    assert read(mounted.root + b"/g") == b"x" * 10
    with refused(errno.ENOENT):
        CALLS["lookup"](mounted.root)


@pytest.mark.needs_extension
def test_what_the_extension_carries(mounting):
    mounted, fail = mounting()
    calls = dict(CARRIED)
    if kernel.release() < (6, 2):
        del calls["tmpfile"]  # O_TMPFILE does not reach FUSE
    wrong = [line for name in calls for line in _wrong(mounted, fail, name, calls[name])]
    assert not wrong, "\n".join(wrong)
    for call in calls.values():
        call(mounted.root)


def _wrong(mounted, fail: Fail, name: str, call: Callable[[bytes], object]) -> Iterator[str]:
    """Yield what is wrong where the operation *name* fails: unforeseen, and with an errno."""
    for number in (0, errno.EDQUOT):
        said, before = len(mounted.logged()), _unforeseen(mounted.root)
        fail(name, number)
        answer = _errno_of(lambda: call(mounted.root))
        fail(None)
        if answer != (number or errno.EIO):
            yield f"{name}, {number}: {errno.errorcode.get(answer, 'done')}"
        log = mounted.logged()[said:]
        count = log.count(b"\nUnforeseenError: " + name.encode())
        if bool(count) == bool(number) or log.count(b"Traceback") != count:
            yield f"{name}, {number}: logged {log.decode()}"
        if _unforeseen(mounted.root) != before + count:
            yield f"{name}, {number}: not counted"
    yield from _dead(mounted.root, name)


def _dead(root: bytes, name: str) -> Iterator[str]:
    """Yield what does not go on after the operation *name* failed, or what it has changed."""
    names = sorted(os.listdir(root))
    if names != [b"d", b"f", b"g", b"h", b"l", b"other"]:
        yield f"{name}: {names}"
    if os.listxattr(root + b"/f") or read(root + b"/f") != b"x" * 10:
        yield f"{name}: the file was changed"
    write(root + b"/other", b"goes on" + name.encode())
    if read(root + b"/other") != b"goes on" + name.encode():
        yield f"{name}: writing does not go on"


def _errno_of(call: Callable[[], object]) -> int:
    try:
        call()
    except OSError as error:
        return error.errno or -1
    return 0


def _unforeseen(root: bytes) -> int:
    return int(stats(root)["unforeseen_errors"])


def test_where_nobody_hears_of_it(faulty_mount):
    """release, releasedir and forget have no caller: the mount lives on."""
    mounted, fail = faulty_mount
    for name in UNHEARD:
        for number in (errno.EDQUOT, 0):
            fail(name, number)
            read(mounted.root + b"/g")
            os.listdir(mounted.root + b"/d")
            write(mounted.root + b"/temporary", b"x")
            os.unlink(mounted.root + b"/temporary")
        _await_log(mounted, b"\nUnforeseenError: " + name.encode())
        fail(None)
        assert read(mounted.root + b"/f") == b"x" * 10
        assert list(_dead(mounted.root, name)) == []


def _await_log(mounted, text: bytes) -> None:
    """The kernel says so when it gets to it."""
    end = time.monotonic() + 20
    while text not in mounted.logged():
        assert time.monotonic() < end, mounted.logged().decode()
        time.sleep(0.01)
