"""Files of lower layers, which the extension opens and reads by itself (_lower.c)."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.support import trees
from tests.support.extension import answered, by_python, stats
from tests.support.files import opened, read, write
from tests.support.fixtures import compared
from tests.support.mounts import METACOPY_OPTIONS, READING_OPTIONS, KernelOverlay, Mounted
from tests.support.stacks import Dir, File, Link, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

MANY = 40
LONG = b"n" * 200
BIG = 3 << 20
LONG_FILES = 40  # more than the extension keeps open
LENGTH = 300_000  # bytes of each: more than a piece of it takes in one request
LAYERS = [
    [
        *(File(b"d/f%d" % number, b"low %d " % number, 5000) for number in range(MANY)),
        *(File(b"d/empty", size=0), File(b"d/" + LONG, b"long name ", 900)),
        *(File(b"d/big", b"0123456789", BIG), File(b"d/one", b"linked ", 700)),
        Link(b"e/other", b"d/one"),
        *(File(b"e/first", b"first ", 600), File(b"e/second", b"second ", 600)),
        *(File(b"g/f%d" % number, b"long %d " % number, LENGTH) for number in range(LONG_FILES)),
        File(b"g/" + LONG, b"long name ", 900),
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


def _long(number: int) -> bytes:
    return (b"long %d " % number * LENGTH)[:LENGTH]


def _append(path: bytes, content: bytes) -> bytes:
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"new")
    return content + b"new"


def _empty(path: bytes, content: bytes) -> bytes:
    os.truncate(path, 0)
    return b""


def _rewrite(path: bytes, content: bytes) -> bytes:
    write(path, b"rewritten")
    return b"rewritten"


def _replace(path: bytes, content: bytes) -> bytes:
    write(path + b".new", b"replaced")
    os.rename(path + b".new", path)
    return b"replaced"


def _make_anew(path: bytes, content: bytes) -> bytes:
    os.unlink(path)
    write(path, b"made anew")
    return b"made anew"


def _exchange_directories(path: bytes, content: bytes) -> bytes:
    directory, name = os.path.split(path)
    above = os.path.dirname(directory)
    os.mkdir(above + b"/new")
    write(above + b"/new/" + name, b"of the new directory")
    os.rename(directory, above + b"/old")
    os.rename(above + b"/new", directory)
    return b"of the new directory"


Change = Callable[[bytes, bytes], bytes]
_CHANGES: list[Change] = [_append, _empty, _rewrite, _replace, _make_anew, _exchange_directories]


def _changed(mounted: Mounted, path: bytes, content: bytes, change: Change) -> bytes:
    """Change the file *path*; return what it is to be read as, which is seen to be so."""
    new = change(mounted.root + path, content)
    with opened(mounted.root + path, os.O_RDONLY) as fd:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.read(fd, 2 * LENGTH) == new
    return new


@pytest.mark.parametrize("change", _CHANGES)
def test_a_change_before_the_first_read_is_read(union, again, layers, change):
    """Also when the kernel has dropped its pages: what it asks for then is the new content."""
    mounted = union(layers)
    told(mounted.root, b"/d")
    content = _changed(mounted, b"/d/f7", (b"low 7 " * 5000)[:5000], change)
    mounted.unmount()
    assert read(again(layers).root + b"/d/f7") == content


@pytest.mark.parametrize("change", _CHANGES)
def test_a_change_between_two_pieces_of_a_long_file_is_read(union, again, layers, change):
    mounted = union(layers)
    os.listdir(mounted.root + b"/g")
    with opened(mounted.root + b"/g/f7", os.O_RDONLY) as before:
        assert os.pread(before, 9, 0) == _long(7)[:9]
        content = _changed(mounted, b"/g/f7", _long(7), change)
        is_it = os.path.samestat(os.fstat(before), os.stat(mounted.root + b"/g/f7"))
        os.posix_fadvise(before, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(before, 2 * LENGTH, 0) == (content if is_it else _long(7))
    mounted.unmount()
    assert read(again(layers).root + b"/g/f7") == content


@pytest.mark.parametrize("grow", [_append, _empty])
def test_a_copy_whose_descriptor_was_given_up(union, layers, grow):
    """Nothing of the copy is open in the daemon any more when the kernel asks for its content."""
    root = union(layers, descriptors=1024).root
    told(root, b"/d")
    content = grow(root + b"/d/f7", (b"low 7 " * 5000)[:5000])
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
@pytest.mark.parametrize("path", [b"/d/" + LONG, b"/e/other"])
def test_what_is_left_to_python(union, layers, path):
    """A long name in a directory of Python's, a file of several names."""
    root = union(layers).root
    told(root, os.path.dirname(path))
    assert not by_extension(root, path)
    content = {b"/d/" + LONG: b"long name ", b"/e/other": b"linked "}
    size = {b"/d/" + LONG: 900, b"/e/other": 700}[path]
    assert read(root + path) == (content[path] * size)[:size]


def _read_pieces(root: bytes) -> None:
    for number in range(LONG_FILES):
        with opened(root + b"/g/f%d" % number, os.O_RDONLY) as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            for at in (0, LENGTH // 2):
                assert os.pread(fd, 9, at) == _long(number)[at : at + 9]


@pytest.mark.default_mode
@pytest.mark.needs_extension
def test_long_files_are_none_of_pythons(union, layers):
    """Nor is their directory, all of which it would have to know of for one of them."""
    root = union(layers).root
    read(root + b"/e/first")  # the kernel hears that files are not to be opened
    os.listdir(root + b"/g")
    before = stats(root)["descriptors"]
    assert by_python(root, lambda: _read_pieces(root)) == 0
    assert by_python(root, lambda: read(root + b"/g/" + LONG)) == 0
    assert read(root + b"/g/" + LONG) == (b"long name " * 900)[:900]
    assert stats(root)["requests"]["read"]["count"] >= 2 * LONG_FILES
    assert stats(root)["descriptors"] - before < LONG_FILES


def test_pieces_of_more_long_files_than_are_kept_open(union, layers):
    root = union(layers).root
    for at in (0, LENGTH // 2, LENGTH - 9, 0):
        for number in range(LONG_FILES):
            with opened(root + b"/g/f%d" % number, os.O_RDONLY) as fd:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                assert os.pread(fd, 9, at) == _long(number)[at : at + 9]


# What is read by splice(2) is 64 KiB and more; the last takes several requests.
LENGTHS = ((1 << 16) - 1, 1 << 16, (1 << 16) + 1, LENGTH + 1, (1 << 20) + 4097)


def _whole(path: bytes) -> bytes:
    """Read a file with the largest requests that there are, none of it from the mount's cache."""
    with opened(path, os.O_RDONLY) as fd:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.read(fd, 2 * LENGTHS[-1])


@pytest.mark.parametrize("length", LENGTHS)
def test_large_pieces(union, scratch, length):
    """To the end of a file that has no whole number of pages, of its copy, and with a hole."""
    content = (b"0123456789abcdefg" * length)[:length]
    layers = build_stack(scratch + b"/s", [[File(b"f", b"0123456789abcdefg", length)]])
    path = union(layers).root + b"/f"
    assert _whole(path) == content
    with opened(path, os.O_RDWR) as fd:
        os.pwrite(fd, b"new", length - 3)
        assert _whole(path) == content[:-3] + b"new"
        os.ftruncate(fd, length - 1)
        os.ftruncate(fd, length + 70_000)
        os.pwrite(fd, b"end", length + 70_000)
    assert _whole(path) == content[:-3] + b"ne" + bytes(70_001) + b"end"


def test_readers_that_are_killed_in_the_middle(union, layers):
    """What they were to get is nobody else's."""
    root = union(layers).root
    for number in range(LONG_FILES):
        with opened(root + b"/d/big", os.O_RDONLY) as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        with subprocess.Popen([b"cat", root + b"/d/big"], stdout=subprocess.DEVNULL) as reader:
            time.sleep(number / 10_000)
            reader.kill()
        assert _whole(root + b"/g/f%d" % number) == _long(number)
    assert read(root + b"/d/big") == (b"0123456789" * BIG)[:BIG]


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
