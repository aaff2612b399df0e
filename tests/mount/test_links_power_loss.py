"""Symbolic links whose owners are kept in an attribute are files on disk, with the text inside.

So after a loss of power they are to have it, as those have that the filesystem itself keeps.
"""

from __future__ import annotations

import os

import pytest

from tests.support.files import opened
from tests.support.fixtures import disk, disks, left  # noqa: F401
from tests.support.mounts import UNION_OPTIONS
from tests.support.stacks import File, Symlink, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_loop]

OPTIONS = {
    "as files": [*UNION_OPTIONS, b"xattr_permissions=2"],
    "as links": [*UNION_OPTIONS],
}


@pytest.fixture
def layers(disk):  # noqa: F811
    made = build_stack(disk.root + b"/s", [[Symlink(b"d/link", b"the text")]])
    disk.sync()
    return made


@pytest.fixture
def text(layers, left, union):  # noqa: F811
    """Return the text of a link in a union on what the disk has now."""

    def text(name: bytes, options: list[bytes]) -> bytes:
        return os.readlink(union(left(layers), options=options).root + name)

    return text


@pytest.mark.parametrize("kept", OPTIONS)
def test_copied_up(disk, layers, union, text, kept):  # noqa: F811
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


@pytest.fixture
def on_another(disk, left, union):  # noqa: F811
    """Return layers on another FUSE filesystem, which hears of fsync(2) and never of syncfs(2),
    and what shows their upper's directory d after a loss of power.
    """
    below = build_stack(disk.root + b"/s", [[]])
    host = union(below, options=UNION_OPTIONS).root
    made = build_stack(host + b"/s", [[File(b"d/file")]])
    assert made.upper is not None
    inside = made.upper.removeprefix(host) + b"/d"
    disk.sync()
    return made, lambda: union(left(below), options=UNION_OPTIONS).root + inside


@pytest.mark.parametrize("kept", OPTIONS)
def test_names_where_syncfs_does_nothing(on_another, union, kept):
    layers, directory = on_another
    root = union(layers, options=OPTIONS[kept]).root
    os.rename(root + b"/d/file", root + b"/d/moved")
    with opened(root + b"/d", os.O_RDONLY) as fd:
        os.fsync(fd)
    assert b"moved" in os.listdir(directory())


@pytest.mark.parametrize("kept", OPTIONS)
def test_a_text_where_syncfs_does_nothing(disk, on_another, union, kept):  # noqa: F811
    layers, directory = on_another
    root = union(layers, options=OPTIONS[kept]).root
    os.symlink(b"new text", root + b"/d/new")
    disk.commit()  # its name, without it
    with opened(root + b"/d", os.O_RDONLY) as fd:
        os.fsync(fd)
    assert os.lstat(directory() + b"/new").st_size == len(b"new text")
