"""What is remembered of files ends with a change: of any file, and in any kind of session."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator

import pytest

from tests.support import kernel
from tests.support.files import opened, read, refused, write
from tests.support.mounts import KernelOverlay, Mounted
from tests.support.stacks import Dir, File, Layers, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

_CAPABILITY = "security.capability"
_NET_BIND = bytes.fromhex("0100000200040000000000000000000000000000")


@pytest.fixture
def lower(scratch: bytes) -> Iterator[bytes]:
    """A directory whose inode numbers take all 64 bits, of which ours then use the top one."""
    other = scratch + b"/other"
    os.mkdir(other)
    kernel.mount(b"tmpfs", other, b"tmpfs")
    os.mkdir(other + b"/low")
    write(other + b"/low/file", b"low")
    below = build_stack(scratch + b"/b", [[Dir(b"bottom")]], writable=False)
    below = Layers((other + b"/low", *below.lowers))
    with KernelOverlay(below, scratch + b"/below", options=b"xino=on") as there:
        yield there.root
    kernel.umount(other)


@pytest.fixture
def root(scratch: bytes, lower: bytes, union: Callable[..., Mounted]) -> bytes:
    above = build_stack(scratch + b"/s", [[]])
    return union(Layers((lower,), above.upper, above.work)).root


@pytest.mark.needs_kernel_overlay
def test_a_large_number_s_file_is_seen_to_change(root: bytes) -> None:
    file = root + b"/file"
    assert os.stat(file).st_ino >> 63
    os.chmod(file, 0o600)
    assert read(file) == b"low"  # after which the kernel asks again
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600


@pytest.mark.needs_kernel_overlay
def test_a_large_number_s_file_gets_a_capability(root: bytes) -> None:
    file = root + b"/file"
    for _ in range(2):
        with refused(errno.ENODATA):
            os.getxattr(file, _CAPABILITY)
    os.setxattr(file, _CAPABILITY, _NET_BIND)
    assert os.getxattr(file, _CAPABILITY)


def test_opening_to_write_changes_what_directories_show(
    scratch: bytes, union: Callable[..., Mounted]
) -> None:
    """With handles (``record``) that copies the file up, and its directory is a merged one then."""
    layers = build_stack(scratch + b"/s", [[Dir(b"d/a"), Dir(b"d/b"), File(b"d/file")]])
    root = union(layers, options=(b"record",)).root
    before = os.stat(root + b"/d/file").st_ctime_ns
    assert os.stat(root + b"/d").st_nlink == 4
    with opened(root + b"/d/file", os.O_WRONLY):
        assert os.stat(root + b"/d").st_nlink == 1
        read(root + b"/d/file")
        assert os.stat(root + b"/d/file").st_ctime_ns > before
