"""What chattr(1) says of a file, and what is forbidden or kept by it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.disks import Disk
from tests.support.files import opened, read, refused, write
from tests.support.mounts import HelperMount, KernelOverlay
from tests.support.rawcalls import (
    FS_APPEND,
    FS_IMMUTABLE,
    FS_NOATIME,
    FS_NODUMP,
    fs_flags,
    set_fs_flags,
)
from tests.support.stacks import Dir, File, Layers, Link, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]
needs_extension = pytest.mark.needs_extension


def _flags(path: bytes) -> int:
    with opened(path, os.O_RDONLY) as fd:
        return fs_flags(fd)


@contextmanager
def _flagged(path: bytes, flag: int) -> Iterator[None]:
    """Set *flag* on *path* while the block runs; left set, nobody could remove the file."""
    with opened(path, os.O_RDONLY) as fd:
        set_fs_flags(fd, flag)
        try:
            yield
        finally:
            set_fs_flags(fd, 0, flag)


def _append(path: bytes, data: bytes) -> None:
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        assert os.write(fd, data) == len(data)


@pytest.fixture
def layers(scratch):
    return build_stack(scratch + b"/s", [[File(b"file", b"low", 3), Dir(b"dir"), File(b"dir/f")]])


@pytest.mark.parametrize("looks", [os.listdir, lambda path: [os.lstat(path + b"/b")], os.lstat])
def test_a_protected_lower_file_stays_however_it_was_seen_before(scratch, union, looks):
    """In a directory of one layer, where the extension tells of files what Python goes by later."""
    names = (b"a", b"b", b"c")
    layers = build_stack(scratch + b"/s", [[File(b"dir/" + name) for name in names]])
    lower = layers.lowers[0] + b"/dir"
    with _flagged(lower + b"/b", FS_IMMUTABLE), _flagged(lower + b"/c", FS_APPEND):
        directory = union(layers).root + b"/dir"
        looks(directory)
        for name in (b"/b", b"/c"):
            with refused(errno.EPERM):
                os.unlink(directory + name)
            with refused(errno.EPERM):
                os.rename(directory + name, directory + b"/d")
        os.unlink(directory + b"/a")
        assert sorted(os.listdir(directory)) == [b"b", b"c"]


@needs_extension
def test_an_append_only_file_can_be_appended_to_and_no_more(union, layers):
    path = union(layers).root + b"/file"
    with opened(path, os.O_RDWR) as fd:
        os.pwrite(fd, b"L", 0)
        with _flagged(path, FS_APPEND):
            _append(path, b" more")
            _append(path, b" and more")
            with refused(errno.EPERM):
                os.pwrite(fd, b"x", 1)
            with refused(errno.EPERM):
                os.truncate(path, 1)
            assert read(path) == b"Low more and more"
            assert os.stat(path).st_size == 17
        os.pwrite(fd, b"l", 0)
    assert read(path) == b"low more and more"


def test_a_file_that_was_append_only_before_the_mount(union, layers):
    write(layers.upper + b"/file", b"log")
    with _flagged(layers.upper + b"/file", FS_APPEND):
        path = union(layers).root + b"/file"
        _append(path, b"ged")
        assert read(path) == b"logged"


@needs_extension
@pytest.mark.parametrize("name", [b"dir", b"new"])
def test_a_removed_directory_has_flags_of_its_own(union, layers, name):
    """And not those of one that was made at its name since."""
    path = union(layers).root + b"/" + name
    os.makedirs(path, exist_ok=True)
    with opened(path, os.O_RDONLY) as fd:
        shutil.rmtree(path)
        os.mkdir(path)
        with opened(path, os.O_RDONLY) as new:
            before = fs_flags(new)
            set_fs_flags(fd, FS_NODUMP)
            assert fs_flags(fd) & FS_NODUMP
            assert fs_flags(new) == before


# On an ext4, whose layers have flags as no other of the tests' filesystems: what one driver writes
# down of them, the other has to read.

_KINDS = {"kernel": KernelOverlay, "ours": HelperMount}
_BOTH_WAYS = pytest.mark.parametrize(("first", "second"), [("ours", "kernel"), ("kernel", "ours")])
_STACK = [
    File(b"immutable", b"low", 3),
    File(b"log", b"low", 3),
    File(b"linked", b"low", 3),
    Link(b"linked-2", b"linked"),
    Dir(b"dir"),
    File(b"dir/inside", b"low", 3),
    File(b"free", b"low", 3),
]
_FLAGS = {
    b"immutable": FS_IMMUTABLE,
    b"log": FS_APPEND | FS_NOATIME,
    b"linked": FS_APPEND,
    b"dir": FS_IMMUTABLE,
}
_SHOWN = FS_IMMUTABLE | FS_APPEND | FS_NOATIME | FS_NODUMP


@pytest.fixture
def on_disk(scratch) -> Iterator[Layers]:
    """Layers on an ext4, with flags in the lower one."""
    with Disk(scratch + b"/img") as disk:
        layers = build_stack(disk.root + b"/s", [_STACK])
        for name, flags in _FLAGS.items():
            with opened(layers.lowers[0] + b"/" + name, os.O_RDONLY) as fd:
                set_fs_flags(fd, flags)
        yield layers
        subprocess.run(["chattr", "-R", "-i", "-a", layers.lowers[0]], check=True)


def _change(root: bytes) -> None:
    """Make everything that has flags be copied up, and give others some."""
    for name in (b"/log", b"/linked-2", b"/dir/inside"):
        _append(root + name, b" more")
    with opened(root + b"/free", os.O_RDWR) as fd:
        set_fs_flags(fd, FS_IMMUTABLE | FS_APPEND | FS_NOATIME)
    with opened(root + b"/immutable", os.O_RDONLY) as fd:
        set_fs_flags(fd, FS_NODUMP)


def _found(root: bytes) -> dict[bytes, int]:
    names = (*_FLAGS, b"linked-2", b"dir/inside", b"free")
    return {name: _flags(root + b"/" + name) & _SHOWN for name in names}


@needs_extension
@pytest.mark.needs_kernel_overlay
@_BOTH_WAYS
def test_what_one_driver_protects_the_other_does(on_disk, scratch, first, second):
    with _KINDS[first](on_disk, scratch + b"/first") as mount:
        _change(mount.root)
        before = _found(mount.root)
    with opened(on_disk.upper + b"/free", os.O_WRONLY):
        pass  # the inode itself is free, and so can be removed with the container
    with _KINDS[second](on_disk, scratch + b"/second") as mount:
        assert _found(mount.root) == before
        assert before == {
            **_FLAGS,
            b"immutable": FS_IMMUTABLE | FS_NODUMP,
            b"linked-2": FS_APPEND,
            b"dir/inside": 0,
            b"free": FS_IMMUTABLE | FS_APPEND | FS_NOATIME,
        }
        for name in (b"/log", b"/linked", b"/dir", b"/free", b"/immutable"):
            with refused(errno.EPERM):
                os.chmod(mount.root + name, 0o700)
            with refused(errno.EPERM):
                os.rename(mount.root + name, mount.root + b"/elsewhere")
        with refused(errno.EPERM):
            os.unlink(mount.root + b"/dir/inside")
        _append(mount.root + b"/log", b" and more")
        assert read(mount.root + b"/log") == b"low more and more"
        with opened(mount.root + b"/free", os.O_RDONLY) as fd:
            set_fs_flags(fd, 0, FS_IMMUTABLE | FS_APPEND)
        write(mount.root + b"/free", b"free again")
        os.unlink(mount.root + b"/free")


@pytest.mark.needs_kernel_overlay
def test_a_lower_file_is_protected_without_a_copy_of_it(on_disk, scratch):
    """Nor is there one afterwards: what is refused copies nothing up."""
    with HelperMount(on_disk, scratch + b"/union") as mount:
        for call in (
            lambda at: os.truncate(at, 1),
            lambda at: os.chmod(at, 0o600),
            lambda at: os.utime(at, ns=(1, 1)),
            lambda at: os.setxattr(at, "user.a", b"v"),
            lambda at: os.link(at, at + b"-link"),
            lambda at: os.rename(at, at + b"-new"),
            os.unlink,
        ):
            for name in (b"/immutable", b"/log", b"/linked"):
                with refused(errno.EPERM):
                    call(mount.root + name)
        with refused(errno.EPERM):
            os.mkdir(mount.root + b"/dir/new")
        with refused(errno.EPERM):
            os.rename(mount.root + b"/free", mount.root + b"/dir/free")
    assert os.listdir(on_disk.upper) == []
