"""Uppers that the kernel wrote with metacopy: a copy's data stays below until it is needed.

A driver that does not know this serves zeros. We bring the data in before anything takes a file
away from where its data is found, and before anything is written.
"""

from __future__ import annotations

import errno
import os

import pytest

from tests.support import trees
from tests.support.files import opened, read, refused, write
from tests.support.mounts import METACOPY_OPTIONS, HelperMount, KernelOverlay
from tests.support.stacks import Dir, File, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_kernel_overlay]
DATA = b"data " * 10_000


@pytest.fixture(params=["", "1"], ids=["extension", "pure"])
def pure(request, monkeypatch):
    monkeypatch.setenv("UNIONFS_PURE", request.param)


@pytest.fixture
def layers(scratch):
    """A stack whose upper has copies of ``d/f`` and ``d/g`` without their data."""
    files = [File(b"d/f", b"data ", 50_000), File(b"d/g", b"data ", 50_000)]
    made = build_stack(scratch + b"/s", [[*files, File(b"e/f", b"other", 50_000)], [Dir(b"d")]])
    with KernelOverlay(made, scratch + b"/k", options=METACOPY_OPTIONS) as there:
        for name in (b"/d/f", b"/d/g"):
            os.chmod(there.root + name, 0o640)
    assert "trusted.overlay.metacopy" in os.listxattr(made.upper + b"/d/f")
    return made


def _overwritten() -> bytes:
    return DATA[:5] + b"NEW" + DATA[8:]


def test_uppers_that_the_kernel_wrote_with_metacopy(scratch, union):
    """A driver that does not know metacopy serves zeros; data redirects too."""
    layers = build_stack(
        scratch + b"/s", [[File(b"d/f", b"data ", 9000), File(b"g", b"good ", 5000)], [File(b"h")]]
    )
    with KernelOverlay(layers, scratch + b"/k", options=METACOPY_OPTIONS) as there:
        os.chmod(there.root + b"/d/f", 0o600)
        os.rename(there.root + b"/d/f", there.root + b"/moved")
        os.chown(there.root + b"/g", 5, 6)
        os.rename(there.root + b"/d", there.root + b"/e")
        theirs = trees.snapshot(there.root)
    mounted = union(layers)
    trees.assert_same(theirs, trees.snapshot(mounted.root), ("kernel", "union"))
    with opened(mounted.root + b"/moved", os.O_RDWR) as fd:
        os.pwrite(fd, b"DATA", 0)
    assert read(mounted.root + b"/moved") == b"DATA " + (b"data " * 1800)[5:]
    mounted.unmount()
    lower = union(layers.read_only())
    assert read(lower.root + b"/g") == b"good " * 1000


def test_attributes_of_a_metacopy_whose_data_is_open(scratch, union):
    """They are the copy's, not those of the file below that has the data."""
    layers = build_stack(scratch + b"/s", [[File(b"f", b"data ", 9000, 0o600)]])
    with KernelOverlay(layers, scratch + b"/k", options=METACOPY_OPTIONS) as there:
        os.chmod(there.root + b"/f", 0o640)
    path = union(layers).root + b"/f"
    with opened(path, os.O_RDONLY) as fd:
        assert os.read(fd, 5) == b"data "
        os.chmod(path, 0o755)
        os.chown(path, 5, 6)
        os.utime(path, (7, 8))
        st = os.lstat(path)
        assert (st.st_mode & 0o7777, st.st_uid, st.st_gid, st.st_mtime) == (0o755, 5, 6, 8)


@pytest.mark.usefixtures("pure")
@pytest.mark.parametrize("name", [b"/d/f", b"/e/f", b"/e/new"])
def test_a_new_name_leads_to_the_data_after_a_remount(union, layers, name):
    """Where there is another file of that name in the layer, or none: whichever is asked first."""
    mounted = union(layers)
    root = mounted.root
    os.unlink(root + b"/e/f")
    os.link(root + b"/d/f", root + b"/e/f")
    os.link(root + b"/d/f", root + b"/e/new")
    mounted.unmount()
    assert read(union(layers).root + name) == DATA


@pytest.mark.usefixtures("pure")
@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("was_read", [False, True])
def test_what_has_lost_its_name_keeps_its_data(union, layers, replaced, was_read):
    """Written to when it has no name any more, with or without a read before."""
    root = union(layers).root
    with opened(root + b"/d/f", os.O_RDWR) as fd, opened(root + b"/d/g", os.O_RDWR) as other:
        if was_read:
            assert os.pread(fd, 5, 0) == b"data "
        if replaced:
            os.rename(root + b"/e/f", root + b"/d/f")
        else:
            os.unlink(root + b"/d/f")
        os.unlink(root + b"/d/g")
        os.rename(root + b"/d", root + b"/moved")
        os.pwrite(fd, b"NEW", 5)
        assert os.pread(fd, 60_000, 0) == _overwritten()
        os.ftruncate(other, 3)
        os.ftruncate(other, 10)
        assert os.pread(other, 60_000, 0) == b"dat" + bytes(7)


@pytest.mark.usefixtures("pure")
def test_every_opener_sees_what_is_cut_and_put_back(union, layers):
    root = union(layers).root
    with opened(root + b"/d/f", os.O_RDONLY) as old:
        assert os.pread(old, 5, 0) == b"data "
        os.truncate(root + b"/d/f", 3)
        os.truncate(root + b"/d/f", 10)
        assert os.pread(old, 100, 0) == b"dat" + bytes(7)


@pytest.mark.usefixtures("pure")
@pytest.mark.parametrize("redirect", [b"../secret", b"/../secret", b"/d/../../secret", b"d/f", b""])
@pytest.mark.parametrize("depth", [0, 1], ids=["upper", "lower"])
def test_a_redirect_that_is_no_path_is_not_followed(scratch, redirect, depth):
    """It could lead out of the layers, to what only the daemon may read."""
    layers = build_stack(scratch + b"/s", [[File(b"d/f", b"secret", 6)], []])
    write(scratch + b"/s/secret", b"secret")
    with open((layers.upper, layers.lowers[0])[depth] + b"/stolen", "wb") as file:
        os.truncate(file.fileno(), 6)
        os.setxattr(file.fileno(), "trusted.overlay.metacopy", b"")
        os.setxattr(file.fileno(), "trusted.overlay.redirect", redirect)
    mounted = HelperMount(layers, scratch + b"/m")
    mounted.expect_errors = True
    with mounted:
        with refused(errno.EIO):
            read(mounted.root + b"/stolen")
        with refused(errno.EIO), opened(mounted.root + b"/stolen", os.O_RDWR) as fd:
            os.pwrite(fd, b"x", 0)
