"""Layers on EROFS, which says of all its files that they are immutable: layers are, anyway."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, chdir
from dataclasses import replace

import pytest

from tests.support import kernel
from tests.support.disks import skip_if_unknown
from tests.support.files import read, write
from tests.support.mounts import KernelOverlay
from tests.support.stacks import Dir, Fifo, File, Layers, Link, Symlink, build_stack

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.needs_loop,
    pytest.mark.needs_kernel_overlay,
]


@pytest.fixture
def layers(scratch: bytes, disks: ExitStack) -> Iterator[Layers]:
    """An upper on the machine's disk, over a lower on EROFS."""
    linked = [File(b"d/first", b"linked"), Link(b"second", b"d/first")]
    files = [File(b"f"), Dir(b"d"), Dir(b"moved/deep"), Symlink(b"link"), Fifo(b"fifo"), *linked]
    layers = build_stack(scratch + b"/s", [files])
    image, lower = scratch + b"/image", scratch + b"/lower"
    subprocess.run(["mkfs.erofs", "--quiet", image, layers.lowers[0]], check=True)
    os.mkdir(lower)
    done = subprocess.run(["mount", "-t", "erofs", "-o", "loop,ro", image, lower], check=False)
    if done.returncode:
        skip_if_unknown("erofs")
        done.check_returncode()
    disks.callback(kernel.umount, lower)
    yield replace(layers, lowers=(lower,))


def test_its_files_are_changed_as_any(layers, union, scratch):
    mounted = union(layers)
    with chdir(mounted.root):
        write(b"f", b"new")
        os.chmod(b"d", 0o700)
        os.rename(b"moved", b"d/here")
        os.unlink(b"link")
        os.chmod(b"fifo", 0o666)
        write(b"second", b"both")
        os.link(b"f", b"d/f")
        assert read(b"d/first") == b"both"
    mounted.unmount()
    with KernelOverlay(layers, scratch + b"/k") as kernels, chdir(kernels.root):
        assert sorted(os.listdir(b".")) == [b"d", b"f", b"fifo", b"second"]
        assert sorted(os.listdir(b"d")) == [b"f", b"first", b"here"]
        assert (read(b"d/f"), read(b"d/first")) == (b"new", b"both")
        assert os.listdir(b"d/here") == [b"deep"]
