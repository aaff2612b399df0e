"""Symbolic links whose owners are kept in an attribute are files on disk, with the text inside.

So after a loss of power they are to have it, as those have that the filesystem itself keeps.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from tests.support.disks import Disk
from tests.support.files import opened
from tests.support.mounts import UNION_OPTIONS
from tests.support.stacks import Layers, Symlink, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_loop]

OPTIONS = {
    "as files": [*UNION_OPTIONS, b"xattr_permissions=2"],
    "as links": [*UNION_OPTIONS],
}


@pytest.fixture
def disks():
    """Disks that end after the unions on them do."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def disk(scratch, disks):
    return disks.enter_context(Disk(scratch + b"/image"))


@pytest.fixture
def layers(disk):
    made = build_stack(disk.root + b"/s", [[Symlink(b"d/link", b"the text")]])
    disk.sync()
    return made


@pytest.fixture
def text(disk, layers, scratch, disks, union):
    """Return the text of a link in a union on what the disk has now."""

    def text(name: bytes, options: list[bytes]) -> bytes:
        copy = disks.enter_context(disk.after_power_loss(scratch + b"/copy"))

        def moved(path: bytes) -> bytes:
            return path.replace(disk.root, copy.root)

        there = Layers((moved(layers.lowers[0]),), moved(layers.upper), moved(layers.work))
        return os.readlink(union(there, options=options).root + name)

    return text


@pytest.mark.parametrize("kept", OPTIONS)
def test_copied_up(disk, layers, union, text, kept):
    """The rename of the copy is on the disk, and nothing that the journal does not hold."""
    root = union(layers, options=OPTIONS[kept]).root
    os.chown(root + b"/d/link", 7, 7, follow_symlinks=False)
    disk.commit()
    assert text(b"/d/link", OPTIONS[kept]) == b"the text"


@pytest.mark.parametrize("kept", OPTIONS)
def test_made_and_its_directory_synced(layers, union, text, kept):
    root = union(layers, options=OPTIONS[kept]).root
    os.symlink(b"new text", root + b"/d/new")
    with opened(root + b"/d", os.O_RDONLY) as fd:
        os.fsync(fd)
    assert text(b"/d/new", OPTIONS[kept]) == b"new text"
