"""btrfs below: it lists, numbers and tells of itself in ways that ext4 and tmpfs do not."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from contextlib import ExitStack

import pytest

from tests.support.disks import disk_of
from tests.support.examples import FULL, TIMEOUT
from tests.support.files import ino, opened, read, write
from tests.support.kernel import getdents
from tests.support.mounts import KernelOverlay
from tests.support.stacks import Dir, File, Layers, Link, build_stack
from tests.support.stores import REPO
from unionfs.store.inuse import users

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.needs_loop,
    pytest.mark.needs_kernel_overlay,
]


@pytest.fixture
def btrfs(scratch: bytes, disks: ExitStack) -> bytes:
    return disk_of("btrfs", disks, scratch + b"/image", size=1 << 30)


@pytest.mark.parametrize("made", [b"d", b"fresh"], ids=["lower", "copied"])
def test_a_directory_that_was_emptied_is_replaced(btrfs, union, made):
    """Through a descriptor, btrfs lists what was there when that was opened, and no whiteouts."""
    layers = build_stack(btrfs + b"/s", [[File(b"d/f"), File(b"fresh/f")]])
    root = union(layers).root
    os.chmod(root + b"/" + made, 0o711)
    os.unlink(root + b"/" + made + b"/f")
    os.mkdir(root + b"/new")
    os.rename(root + b"/new", root + b"/" + made)
    assert os.listdir(root + b"/" + made) == []


def test_a_link_in_one_subvolume_of_two_is_a_link_after_a_remount(btrfs, scratch, union):
    """Each has a device number of its own, and all the same UUID: to overlayfs, one filesystem."""
    layers = build_stack(
        btrfs + b"/s", [[File(b"a", b"old"), Link(b"b", b"a")], [Dir(b"d"), File(b"d/f")]]
    )
    lowers = tuple(_in_a_subvolume(lower) for lower in layers.lowers)
    layers = Layers(lowers, layers.upper, layers.work)
    first = union(layers)
    before = ino(first.root + b"/a")
    write(first.root + b"/a", b"new")
    first.unmount()
    second = union(layers)
    assert read(second.root + b"/b") == b"new"
    assert ino(second.root + b"/b") == ino(second.root + b"/a") == before
    assert os.lstat(second.root + b"/b").st_nlink == 2
    second.unmount()
    with KernelOverlay(layers, scratch + b"/k", options=b"index=on") as kernels:
        assert read(kernels.root + b"/b") == b"new"


def test_a_subvolume_in_a_layer_lists_the_numbers_that_its_files_have(btrfs, union):
    """Its directory was lent, and the extension listed the numbers of other files of the layer."""
    layers = build_stack(btrfs + b"/s", [[File(b"d/f"), File(b"e/f")]])
    nested = layers.lowers[0] + b"/n"
    subprocess.run(["btrfs", "-q", "subvolume", "create", nested], check=True)
    for number in range(9):
        write(nested + b"/%d" % number, b"")
    n = union(layers).root + b"/n"
    with opened(n, os.O_RDONLY | os.O_DIRECTORY) as fd:
        listed = {entry.name: entry.ino for entry in getdents(fd)[2:]}
    assert listed == {name: ino(n + b"/" + name) for name in listed}


def _in_a_subvolume(lower: bytes) -> bytes:
    volume = lower + b".volume"
    subprocess.run(["btrfs", "-q", "subvolume", "create", volume], check=True)
    subprocess.run(["cp", "-a", lower + b"/.", volume], check=True)
    return volume


def test_who_uses_a_directory_is_found(btrfs):
    """Whose daemon is asked when a mounted container is committed."""
    fd = os.open(btrfs, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert users(os.fsdecode(btrfs)) == [os.getpid()]
    finally:
        os.close(fd)


@pytest.mark.timeout(TIMEOUT)
def test_what_is_compared_with_a_plain_directory(btrfs):
    """Sequences of operations, with remounts and the kernel's overlayfs on what they left."""
    modules = [
        "tests/property/test_overlay.py",
        "tests/property/test_overlay_links.py",
        "tests/mount/test_identity_links.py",
        "tests/mount/storms/test_moving.py",
    ]
    env = {**os.environ, "UNIONFS_TEST_DISK": "1", "TMPDIR": os.fsdecode(btrfs)}
    env |= {} if FULL else {"UNIONFS_TEST_EXAMPLES": "3"}
    env.pop("UNIONFS_TEST_SESSION", None)  # what belongs to this run is no leftover of that one
    words = ["-q", "-p", "no:cacheprovider", "--basetemp", btrfs + b"/t", *modules]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=REPO,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout, done.stdout
