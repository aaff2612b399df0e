"""Mounts that must not be: refused with the reason, never a hang, nothing left behind."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import pytest

from tests.support import kernel
from tests.support.files import read, refused
from tests.support.mounts import HelperMount, MountFailed
from tests.support.stacks import MARKS, Dir, File, Layers, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


@pytest.fixture
def layers(scratch):
    return build_stack(scratch + b"/s", [[File(b"f"), Dir(b"sub")]])


def _refused(layers: Layers, target: bytes) -> str:
    """Mount; return the one line that says why not."""
    with pytest.raises(MountFailed) as caught:
        HelperMount(layers, target).unmount()
    assert kernel.mounted_at(target) is None
    status, _, said = str(caught.value).partition(": ")
    assert status == "exit status 1"
    lines = said.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("unionfs: error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("upper", "work"),
    [
        (b"lower0/sub", b"work0"),
        (b"upper0", b"lower0/sub"),
        (b"lower0", b"work0"),
        (b"upper0", b"upper0"),
        (b"upper0", b"upper0/inside"),
        (b"work0/inside", b"work0"),
    ],
)
def test_directories_inside_one_another(layers, scratch, upper, work):
    at = scratch + b"/s/"
    for name in (upper, work):
        os.makedirs(at + name, exist_ok=True)
    wrong = Layers(layers.lowers, at + upper, at + work)
    assert "in one another" in _refused(wrong, scratch + b"/m")


@pytest.mark.parametrize("target", [b"lower0", b"lower0/sub", b"upper0", b"work0"])
def test_the_mount_point_is_a_layer_or_in_one(layers, scratch, target):
    assert "in one another" in _refused(layers, scratch + b"/s/" + target)


def test_a_lower_inside_the_upper(layers, scratch):
    inside = scratch + b"/s/upper0/low"
    os.mkdir(inside)
    wrong = Layers((inside, *layers.lowers), layers.upper, layers.work)
    assert "in one another" in _refused(wrong, scratch + b"/m")


@pytest.mark.parametrize("missing", ["lower", "upper", "work"])
def test_a_missing_directory_is_named(layers, scratch, missing):
    gone = scratch + b"/gone"
    wrong = {
        "lower": Layers((*layers.lowers, gone), layers.upper, layers.work),
        "upper": Layers(layers.lowers, gone, layers.work),
        "work": Layers(layers.lowers, layers.upper, gone),
    }[missing]
    assert "/gone" in _refused(wrong, scratch + b"/m")


def test_a_filesystem_that_is_read_only_is_named(layers, scratch):
    at = scratch + b"/ro"
    os.mkdir(at)
    kernel.mount(b"none", at, b"tmpfs")
    try:
        for name in (b"/u", b"/w"):
            os.mkdir(at + name)
        kernel.mount(b"none", at, b"none", kernel.MS_REMOUNT | kernel.MS_RDONLY)
        said = _refused(Layers(layers.lowers, at + b"/u", at + b"/w"), scratch + b"/m")
    finally:
        kernel.umount(at)
    assert os.fsdecode(at) + "/w: Read-only file system" in said


def test_a_layer_that_is_a_file(layers, scratch):
    wrong = Layers((*layers.lowers, layers.lowers[0] + b"/f"), layers.upper, layers.work)
    assert "/f" in _refused(wrong, scratch + b"/m")


def test_an_upper_that_another_mount_uses(layers, scratch, union):
    """It waits for a daemon that is leaving, a bounded time; this one is not leaving."""
    mounted = union(layers)
    assert "in use" in _refused(layers, scratch + b"/m")
    assert os.listdir(mounted.root + b"/sub") == []


def test_an_upper_that_another_mount_uses_with_another_work_directory(layers, scratch, union):
    """Both would change it, and neither know of the other's changes."""
    mounted = union(layers)
    os.mkdir(scratch + b"/more")
    assert "upper0 is in use" in _refused(replace(layers, work=scratch + b"/more"), scratch + b"/m")
    assert os.listdir(mounted.root + b"/sub") == []


def test_a_mark_that_nobody_knows(scratch, union):
    """It may be of a newer overlayfs, and say that what is there is not what is to be shown."""
    below = [File(b"sub/below"), File(b"other"), File(b"d/sub/below")]
    above = [File(b"sub/above"), File(b"d/sub/above")]
    layers = build_stack(scratch + b"/s", [below, above, [Dir(b"d")]])
    for name in (b"/sub", b"/d/sub"):
        os.setxattr(layers.lowers[1] + name, f"{MARKS}.overlay.new", b"")
    mounted = HelperMount(layers, scratch + b"/m")
    mounted.expect_errors = True
    with mounted:
        for name in (b"/sub", b"/d/sub"):
            with refused(errno.EIO):
                os.listdir(mounted.root + name)
        assert read(mounted.root + b"/other") == b"x" * 10
    os.setxattr(layers.lowers[1], f"{MARKS}.overlay.new", b"")
    error = _refused(layers, scratch + b"/again")
    assert "lower1" in error and f"{MARKS}.overlay.new" in error


def test_a_redirect_that_would_leave_the_layers(scratch):
    """It is not followed, and what it would have merged with is not shown as if it were whole."""
    layers = build_stack(
        scratch + b"/s", [[File(b"sub/below"), File(b"other")], [File(b"sub/above")]]
    )
    os.setxattr(layers.lowers[0] + b"/sub", f"{MARKS}.overlay.redirect", b"../../outside")
    mounted = HelperMount(layers, scratch + b"/m")
    mounted.expect_errors = True
    with mounted:
        for name in (b"/sub", b""):
            with refused(errno.EIO):
                os.listdir(mounted.root + name)
        assert read(mounted.root + b"/other") == b"x" * 10
