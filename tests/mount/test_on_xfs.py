"""XFS below: what it takes for a change of a file, and what not."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.support.disks import disk_of
from tests.support.files import opened, refused, write
from tests.support.layers import apply, emit
from tests.support.stacks import PAST_NS, Dir, File, build_stack

_SIZE = 100
_ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHi", *entry)
    for entry in ((1, 7, -1), (2, 7, 1000), (4, 5, -1), (16, 7, -1), (32, 5, -1))
)
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL
_FICLONE, _FIDEDUPERANGE, _FS_IOC_FIEMAP = 0x40049409, 0xC0189436, 0xC020660B
_FIEMAP_EXTENT_SHARED = 0x2000

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_loop]


@pytest.fixture
def xfs(scratch: bytes, disks: ExitStack) -> bytes:
    return disk_of("xfs", disks, scratch + b"/image", size=400 << 20)


def test_a_directory_moved_to_a_name_that_was_removed_keeps_its_times(xfs, union):
    """It changes places with the whiteout, and XFS dates a directory that is exchanged."""
    layers = build_stack(xfs + b"/s", [[Dir(b"here/moved"), File(b"here/moved/f"), File(b"gone")]])
    root = union(layers).root
    before = os.stat(root + b"/here/moved")
    os.unlink(root + b"/gone")
    os.rename(root + b"/here/moved", root + b"/gone")
    after = os.stat(root + b"/gone")
    assert (after.st_atime_ns, after.st_mtime_ns) == (before.st_atime_ns, before.st_mtime_ns)


@pytest.mark.parametrize("where", ["lower", "upper", "open"])
def test_a_truncation_to_the_size_that_a_file_has(xfs, union, where):
    """By its name it changes nothing there, by a descriptor it does."""
    layers = build_stack(xfs + b"/s", [[File(b"f", size=_SIZE)]])
    path, plain = union(layers).root + b"/f", _plain(xfs, _SIZE)
    if where != "lower":
        os.chmod(path, 0o600)
    fd = os.open(path, os.O_RDWR) if where == "open" else -1
    for change in (_by_name, _by_descriptor):
        assert _dated_by(change, path) == _dated_by(change, plain), change
    if fd >= 0:
        os.close(fd)


def test_an_empty_file_that_is_emptied(xfs, union):
    """FUSE does not tell open(2) with O_TRUNC, which always changes times, from truncate(2)."""
    layers = build_stack(xfs + b"/s", [[File(b"f", size=0)]])
    path, plain = union(layers).root + b"/f", _plain(xfs, 0)
    assert _dated_by(_by_opening, plain)
    assert _dated_by(_by_opening, path)
    assert not _dated_by(partial(os.truncate, length=0), plain)
    assert _dated_by(partial(os.truncate, length=0), path)


def test_blocks_are_shared_by_copy_file_range_alone(xfs, union):
    """FICLONE and FIDEDUPERANGE never reach us: FUSE's files have no remap_file_range()."""
    layers = build_stack(xfs + b"/s", [[File(b"f", size=1 << 20)]])
    root = union(layers).root
    with opened(root + b"/f", os.O_RDWR) as source, opened(root + b"/new", _CREATE) as target:
        with refused(errno.EOPNOTSUPP):
            fcntl.ioctl(target, _FICLONE, source)
        with refused(errno.EOPNOTSUPP):
            wanted = struct.pack("=QQHHIqQQiI", 0, 1 << 20, 1, 0, 0, target, 0, 0, 0, 0)
            fcntl.ioctl(source, _FIDEDUPERANGE, wanted)
        assert os.copy_file_range(source, target, 1 << 20, 0, 0) == 1 << 20
    assert layers.upper is not None
    assert _is_shared(layers.upper + b"/new")


def _is_shared(path: bytes) -> bool:
    """Return whether the first blocks of *path* are another file's as well."""
    asked = struct.pack("=QQIIII", 0, 1 << 40, 1, 0, 1, 0) + bytes(56)
    with opened(path, os.O_RDONLY) as fd:
        flags: int = struct.unpack_from("=I", fcntl.ioctl(fd, _FS_IOC_FIEMAP, asked), 32 + 40)[0]
    return bool(flags & _FIEMAP_EXTENT_SHARED)


def test_a_layer_has_the_acls_that_its_files_have(xfs, scratch):
    """XFS lists a default ACL twice, and by one of the names it was there before the files."""
    for name in (b"/made", b"/again"):
        os.mkdir(xfs + name)
    os.mkdir(xfs + b"/made/d")
    write(xfs + b"/made/d/f", b"")
    os.setxattr(xfs + b"/made/d", "system.posix_acl_default", _ACL)
    layer = apply(Path(os.fsdecode(xfs + b"/again")), emit(xfs + b"/made"))
    assert layer.xattr("d", b"system.posix_acl_default") == _ACL
    assert os.listxattr(layer.at("d/f")) == []


def _plain(disk: bytes, size: int) -> bytes:
    """Make a file of *size* bytes beside the layers; return its path."""
    with open(disk + b"/plain", "wb") as file:
        file.write(bytes(size))
    return disk + b"/plain"


def _dated_by(change: Callable[[bytes], object], path: bytes) -> bool:
    os.utime(path, ns=(PAST_NS, PAST_NS))
    change(path)
    return os.stat(path).st_mtime_ns != PAST_NS


def _by_name(path: bytes) -> None:
    os.truncate(path, _SIZE)


def _by_descriptor(path: bytes) -> None:
    fd = os.open(path, os.O_WRONLY)
    os.ftruncate(fd, _SIZE)
    os.close(fd)


def _by_opening(path: bytes) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
