"""Small files of lower layers, which the extension opens and reads by itself (_lower.c)."""

from __future__ import annotations

import os

import pytest

from tests.support import trees
from tests.support.extension import answered
from tests.support.files import opened, read, write
from tests.support.fixtures import compared
from tests.support.mounts import METACOPY_OPTIONS, READING_OPTIONS, KernelOverlay
from tests.support.stacks import Dir, File, Link, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

MANY = 40
LONG = b"n" * 200
BIG = 3 << 20
LAYERS = [
    [
        *(File(b"d/f%d" % number, b"low %d " % number, 5000) for number in range(MANY)),
        *(File(b"d/empty", size=0), File(b"d/" + LONG, b"long name ", 900)),
        *(File(b"d/big", b"0123456789", BIG), File(b"d/one", b"linked ", 700)),
        Link(b"e/other", b"d/one"),
        *(File(b"e/first", b"first ", 600), File(b"e/second", b"second ", 600)),
    ],
    [Dir(b"d"), File(b"d/f0", b"top 0 ", 5000), File(b"d/top", b"top ", 300)],
]


@pytest.fixture
def layers(scratch):
    return build_stack(scratch + b"/s", LAYERS)


def told(root: bytes, directory: bytes) -> list[bytes]:
    """Tell the kernel of all in *directory*; of each layer, read one file."""
    names = sorted(os.listdir(root + directory))
    for name in names:
        os.lstat(root + directory + b"/" + name)
    for first in (b"/f1", b"/top") if directory == b"/d" else (b"/first",):
        read(root + directory + first)
    return names


def by_extension(root: bytes, path: bytes) -> bool:
    """Return whether the extension alone answers what reading *path* asks for."""
    before = answered(root)
    with opened(root + path, os.O_RDONLY) as fd:
        os.read(fd, 1 << 16)
    return answered(root) > before


@pytest.mark.needs_extension
def test_the_first_file_of_a_directory_is_pythons_and_the_rest_are_not(union, layers):
    root = union(layers).root
    told(root, b"/d")
    assert all(by_extension(root, b"/d/f%d" % number) for number in range(2, MANY))
    for number in range(2, MANY):
        assert read(root + b"/d/f%d" % number) == (b"low %d " % number * 5000)[:5000]


@compared
def test_every_file_has_the_content_that_its_layer_says(union, layers, scratch):
    with KernelOverlay(layers, scratch + b"/k", options=READING_OPTIONS) as there:
        theirs = trees.snapshot(there.root)
    mounted = union(layers)
    for directory in (b"/d", b"/e"):
        told(mounted.root, directory)
    trees.assert_same(theirs, trees.snapshot(mounted.root), ("kernel", "union"))


def _append(path: bytes) -> bytes:
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"new")
    return (b"low 7 " * 5000)[:5000] + b"new"


def _empty(path: bytes) -> bytes:
    os.truncate(path, 0)
    return b""


def _rewrite(path: bytes) -> bytes:
    write(path, b"rewritten")
    return b"rewritten"


def _replace(path: bytes) -> bytes:
    write(path + b".new", b"replaced")
    os.rename(path + b".new", path)
    return b"replaced"


def _make_anew(path: bytes) -> bytes:
    os.unlink(path)
    write(path, b"made anew")
    return b"made anew"


def _exchange_directories(path: bytes) -> bytes:
    above = os.path.dirname(os.path.dirname(path))
    os.mkdir(above + b"/new")
    write(above + b"/new/f7", b"of the new directory")
    os.rename(above + b"/d", above + b"/old")
    os.rename(above + b"/new", above + b"/d")
    return b"of the new directory"


@pytest.mark.parametrize(
    "change", [_append, _empty, _rewrite, _replace, _make_anew, _exchange_directories]
)
def test_a_change_before_the_first_read_is_read(union, again, layers, change):
    """Also when the kernel has dropped its pages: what it asks for then is the new content."""
    mounted = union(layers)
    told(mounted.root, b"/d")
    path = mounted.root + b"/d/f7"
    content = change(path)
    with opened(path, os.O_RDONLY) as fd:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.read(fd, 1 << 16) == content
    mounted.unmount()
    assert read(again(layers).root + b"/d/f7") == content


@pytest.mark.parametrize("grow", [_append, _empty])
def test_a_copy_whose_descriptor_was_given_up(union, layers, grow):
    """Nothing of the copy is open in the daemon any more when the kernel asks for its content."""
    root = union(layers, descriptors=1024).root
    told(root, b"/d")
    content = grow(root + b"/d/f7")
    for number in range(300):  # the daemon keeps 256
        write(root + b"/new%d" % number, b"x")
    with opened(root + b"/d/f7", os.O_RDONLY) as fd:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.read(fd, 1 << 16) == content


def test_an_open_file_goes_on_with_its_copy(union, layers):
    root = union(layers).root
    told(root, b"/d")
    with opened(root + b"/d/f9", os.O_RDONLY) as reader:
        assert os.pread(reader, 4, 0) == b"low "
        with opened(root + b"/d/f9", os.O_WRONLY) as writer:
            os.pwrite(writer, b"HIGH", 4096)
        os.posix_fadvise(reader, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(reader, 4, 4096) == b"HIGH"
        assert os.pread(reader, 4, 0) == b"low "


def test_a_moved_directory_still_has_its_files(union, layers):
    root = union(layers).root
    told(root, b"/d")
    os.rename(root + b"/d", root + b"/moved")
    assert read(root + b"/moved/f5") == (b"low 5 " * 5000)[:5000]
    assert read(root + b"/moved/top") == (b"top " * 300)[:300]


@pytest.mark.needs_extension
@pytest.mark.parametrize("path", [b"/d/" + LONG, b"/d/big", b"/e/other"])
def test_what_is_left_to_python(union, layers, path):
    """A long name, a long file, a file of several names."""
    root = union(layers).root
    told(root, os.path.dirname(path))
    if path != b"/d/big":
        assert not by_extension(root, path)
    content = {b"/d/" + LONG: b"long name ", b"/d/big": b"0123456789", b"/e/other": b"linked "}
    size = {b"/d/" + LONG: 900, b"/d/big": BIG, b"/e/other": 700}[path]
    assert read(root + path) == (content[path] * size)[:size]


@pytest.mark.needs_kernel_overlay
def test_a_file_without_its_data_beside_one_with_it(union, scratch):
    """The kernel's metacopy in a lower layer: a hole in place of its content."""
    files = [File(b"d/a", b"whole ", 3000), File(b"d/b", b"below ", 3000)]
    layers = build_stack(scratch + b"/s", [files, [File(b"d/c", b"beside ", 3000)]])
    with KernelOverlay(layers, scratch + b"/k", options=METACOPY_OPTIONS) as there:
        os.chmod(there.root + b"/d/b", 0o640)
        write(there.root + b"/d/e", b"e" * 3000)
        write(there.root + b"/d/g", b"g" * 3000)
    root = union(layers.read_only()).root
    for name in os.listdir(root + b"/d"):
        os.lstat(root + b"/d/" + name)
    assert read(root + b"/d/e") == b"e" * 3000
    assert read(root + b"/d/b") == (b"below " * 3000)[:3000]
    assert read(root + b"/d/g") == b"g" * 3000
