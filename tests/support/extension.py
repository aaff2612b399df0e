"""What the C extension brings, by name: each feature with a probe and its answer with and without.

Linux has the features since the version that is given; on an older one the answer is ``without``'s.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support import kernel
from tests.support.files import as_user

FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
_NODUMP = 0x40
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_ACL = b"\2\0\0\0\1\0\7\0\xff\xff\xff\xff\4\0\7\0\xff\xff\xff\xff\x20\0\7\0\xff\xff\xff\xff"
HOLE = 1 << 20  # bytes of nothing in front of the data of the probe's sparse file


def stats(root: bytes) -> dict[str, Any]:
    """Return what the mount on *root* says of itself (``unionfs stats --json``)."""
    found = json.loads(os.getxattr(root, "user.unionfs.stats"))
    assert isinstance(found, dict)
    return found


def answered(root: bytes) -> int:
    """Return how many requests of the mount on *root* the extension answered without Python."""
    return int(stats(root)["answered_by_extension"])


def by_python(root: bytes, work: Callable[[], object]) -> int:
    """Return how many of the requests that *work* makes to the mount on *root* come to Python."""

    def count() -> int:
        found = stats(root)
        silent = ("forget", "batch_forget", "getxattr")  # the last is this question itself
        all_of = sum(n["count"] for name, n in found["requests"].items() if name not in silent)
        return int(all_of - found["answered_by_extension"])

    before = count()
    work()
    return count() - before


@dataclass(frozen=True, slots=True)
class Feature:
    """*probe* takes the mount's root and returns what a program sees, as a word."""

    name: str
    probe: Callable[[bytes], str]
    having: str
    without: str
    linux: tuple[int, int] = (5, 6)  # the oldest that the project runs on

    def expected(self, *, extension: bool) -> str:
        """Return the probe's answer on this kernel."""
        return self.having if extension and kernel.release() >= self.linux else self.without


def _answer(call: Callable[[], object]) -> str:
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ok"


def _fallocate(mode: int) -> Callable[[bytes], str]:
    def probe(root: bytes) -> str:
        fd = os.open(root + b"/sparse", os.O_RDWR)
        try:
            return _answer(lambda: kernel.fallocate(fd, mode, 0, 4096))
        finally:
            os.close(fd)

    return probe


def _first_data(root: bytes) -> str:
    fd = os.open(root + b"/sparse", os.O_RDONLY)
    try:
        return "after the hole" if os.lseek(fd, 0, os.SEEK_DATA) >= HOLE else "at 0"
    finally:
        os.close(fd)


def _nameless(root: bytes) -> str:
    def make() -> None:
        os.close(os.open(root, os.O_TMPFILE | os.O_RDWR, 0o600))

    return _answer(make)


def _flags(root: bytes) -> str:
    fd = os.open(root + b"/sparse", os.O_RDONLY)

    def change() -> None:
        now = fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8))
        changed = bytes([now[0] ^ _NODUMP]) + now[1:]
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, changed)
        assert fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8)) == changed

    try:
        return _answer(change)
    finally:
        os.close(fd)


def _inherited(root: bytes) -> str:
    os.mkdir(root + b"/acl")
    os.setxattr(root + b"/acl", "system.posix_acl_default", _ACL)
    old = os.umask(0o077)
    try:
        os.close(os.open(root + b"/acl/new", os.O_CREAT | os.O_WRONLY, 0o666))
    finally:
        os.umask(old)
    return f"{os.stat(root + b'/acl/new').st_mode & 0o777:o}"


def _both_flags(root: bytes) -> str:
    both = os.XATTR_CREATE | os.XATTR_REPLACE
    return _answer(lambda: os.setxattr(root + b"/sparse", "user.new", b"new", both))


def _write_into(path: bytes) -> None:
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"x")
    os.close(fd)


def _written_by_a_stranger(root: bytes) -> str:
    """Return the mode that is left of one with set-group-ID and no x, which members keep."""
    path = root + b"/sparse"
    os.chown(path, 0, 7)
    os.chmod(path, 0o2766)
    assert as_user(lambda: _write_into(path), gid=8) == 0
    return f"{os.stat(path).st_mode & 0o7777:o}"


def _root_number(root: bytes) -> str:
    return "1" if os.stat(root).st_ino == 1 else "its own"


def _emptied_while_running(root: bytes) -> str:
    """Return what is left of a running program after an open(2) with O_TRUNC, which is refused.

    Where the kernel leaves truncation to OPEN, it sends that before it sees that the file runs.
    """
    path = root + b"/program"
    shutil.copyfile(b"/bin/sleep", path)
    os.chmod(path, 0o755)
    with subprocess.Popen([path, "1000"]) as process:
        try:
            said = _answer(lambda: os.close(os.open(path, os.O_RDONLY | os.O_TRUNC)))
        finally:
            process.kill()
    return f"whole, {said}" if os.stat(path).st_size else "empty"


FEATURES = (
    Feature("fallocate", _fallocate(0), "ok", "ENOTSUP"),
    Feature("punch hole", _fallocate(_KEEP_SIZE | _PUNCH_HOLE), "ok", "ENOTSUP"),
    Feature("seek data", _first_data, "after the hole", "at 0"),
    Feature("O_TMPFILE", _nameless, "ok", "ENOTSUP", linux=(6, 2)),
    Feature("file flags", _flags, "ok", "ENOTTY", linux=(5, 13)),
    Feature("default ACL against umask", _inherited, "666", "600"),
    Feature("caller of a write", _written_by_a_stranger, "766", "2766"),
    Feature("xattr flags", _both_flags, "ENODATA", "ok"),
    Feature("root's inode number", _root_number, "its own", "1"),
    Feature("O_TRUNC of a running program", _emptied_while_running, "whole, ETXTBSY", "empty"),
)
