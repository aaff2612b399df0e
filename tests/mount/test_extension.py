"""What the C extension brings: there with it, and what Linux answers without."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import termios

import pytest

from tests.support import kernel
from tests.support.extension import FEATURES, HOLE, Feature, answered
from tests.support.files import opened, read, refused, write
from tests.support.stacks import Dir, File, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]
KEEP_SIZE, PUNCH_HOLE = 1, 2


@pytest.fixture
def layers(scratch):
    found = build_stack(scratch + b"/s", [[Dir(b"dir"), File(b"sparse")]])
    with open(found.lowers[0] + b"/sparse", "wb") as file:
        file.seek(HOLE)
        file.write(b"data" * 1024)
    return found


@pytest.mark.needs_extension
@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_with_the_extension(union, layers, feature: Feature):
    assert feature.probe(union(layers).root) == feature.expected(extension=True)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_without_it(union, layers, feature: Feature, monkeypatch):
    monkeypatch.setenv("UNIONFS_PURE", "1")
    assert feature.probe(union(layers).root) == feature.expected(extension=False)


@pytest.mark.parametrize("pure", ["", "1"])
def test_a_page_written_through_a_map_is_no_hole(union, layers, monkeypatch, pure):
    """cp(1) would leave out what it takes for a hole, and the copy would have zeros there."""
    monkeypatch.setenv("UNIONFS_PURE", pure)
    root = union(layers).root
    fd = os.open(root + b"/sparse", os.O_RDWR)
    with mmap.mmap(fd, HOLE) as mapped:
        mapped[HOLE // 2] = 1
        at = os.lseek(fd, 0, os.SEEK_DATA)
        assert at <= HOLE // 2 < os.lseek(fd, at, os.SEEK_HOLE)
        assert os.pread(fd, 1, HOLE // 2) == b"\1"
        mapped[0] = 2  # the map goes on after its pages went
        assert os.pread(fd, 1, 0) == b"\2"
    os.close(fd)


@pytest.mark.needs_extension
def test_a_punched_hole_reads_as_zeros_through_every_descriptor(union, layers):
    root = union(layers).root
    write(root + b"/file", b"x" * 12288)
    old = os.open(root + b"/file", os.O_RDONLY)
    assert os.pread(old, 4, 4096) == b"xxxx"
    fd = os.open(root + b"/file", os.O_RDWR)
    kernel.fallocate(fd, KEEP_SIZE | PUNCH_HOLE, 4096, 4096)
    assert os.pread(old, 12288, 0) == b"x" * 4096 + bytes(4096) + b"x" * 4096
    kernel.fallocate(fd, 0, 0, 20000)
    assert os.fstat(old).st_size == 20000
    os.close(fd)
    os.close(old)


@pytest.mark.needs_extension
def test_allocating_copies_a_lower_file_up_and_leaves_the_layer(union, layers):
    root = union(layers).root
    size = os.stat(layers.lowers[0] + b"/sparse").st_size
    fd = os.open(root + b"/sparse", os.O_RDWR)
    kernel.fallocate(fd, 0, 0, 2 * size)
    assert os.fstat(fd).st_size == 2 * size
    assert os.pread(fd, 4, HOLE) == b"data"
    assert os.stat(layers.lowers[0] + b"/sparse").st_size == size
    os.close(fd)


@pytest.mark.needs_extension
@pytest.mark.skipif(kernel.release() < (6, 2), reason="O_TMPFILE reaches FUSE from Linux 6.2")
def test_a_nameless_file_gets_a_name(union, layers):
    mounted = union(layers)
    root = mounted.root
    fd = os.open(root + b"/dir", os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(fd, b"content")
    st = os.fstat(fd)
    assert (st.st_nlink, st.st_mode & 0o777) == (0, 0o640)
    assert os.listdir(root + b"/dir") == []
    os.link(b"/proc/self/fd/%d" % fd, root + b"/named", src_dir_fd=fd, follow_symlinks=True)
    named = os.stat(root + b"/named")
    assert (named.st_ino, named.st_nlink) == (st.st_ino, 1)
    assert os.fstat(fd).st_nlink == 1
    os.write(fd, b" and more")
    os.close(fd)
    os.link(root + b"/named", root + b"/again")
    os.unlink(root + b"/named")
    with open(root + b"/again", "rb") as file:
        assert file.read() == b"content and more"
    assert sorted(os.listdir(layers.upper)) == [b"again", b"dir"]


@pytest.mark.needs_extension
@pytest.mark.skipif(kernel.release() < (6, 2), reason="O_TMPFILE reaches FUSE from Linux 6.2")
def test_nameless_files_leave_nothing(union, layers):
    root = union(layers).root
    for _ in range(3000):
        os.close(os.open(root, os.O_TMPFILE | os.O_RDWR, 0o600))
    assert os.listdir(layers.upper) == []
    assert os.listdir(layers.work + b"/work") == []


def test_a_range_is_copied_between_layers(union, layers):
    root = union(layers).root
    source = os.open(root + b"/sparse", os.O_RDONLY)
    target = os.open(root + b"/copy", os.O_RDWR | os.O_CREAT, 0o644)
    assert os.copy_file_range(source, target, 4096, HOLE, 10) == 4096
    assert os.pread(target, 4096, 10) == b"data" * 1024
    assert os.fstat(target).st_size == 4106
    assert os.copy_file_range(target, target, 100, 10, 5000) == 100  # within one file
    assert os.pread(target, 4, 5000) == b"data"
    os.close(source)
    os.close(target)


def test_create_and_replace_attributes(union, layers):
    os.setxattr(layers.lowers[0] + b"/sparse", "user.there", b"1")
    path = union(layers).root + b"/sparse"
    upper = layers.upper + b"/sparse"
    with pytest.raises(FileExistsError):
        os.setxattr(path, "user.there", b"2", os.XATTR_CREATE)
    with pytest.raises(OSError, match="No data"):
        os.setxattr(path, "user.missing", b"2", os.XATTR_REPLACE)
    assert not os.path.exists(upper)  # what is refused changes nothing
    os.setxattr(path, "user.missing", b"2", os.XATTR_CREATE)
    os.setxattr(path, "user.missing", b"3", os.XATTR_REPLACE)
    assert os.getxattr(upper, "user.missing") == b"3"


def test_the_carrier_is_an_attribute_like_any_other(union, layers):
    path = union(layers).root + b"/sparse"
    with pytest.raises(OSError, match="not supported"):
        os.getxattr(path, "unionfs.carried")


@pytest.mark.needs_extension
@pytest.mark.parametrize(
    ("option", "kib"), [("atime", 512), ("readahead=1024", 1024), ("readahead=off", 128)]
)
def test_the_kernel_reads_ahead_as_far_as_said(scratch, union, option, kib):
    layers = build_stack(scratch + b"/s", [[File(b"f")]], writable=False)
    root = union(layers, options=[option.encode()]).root
    st = os.stat(root)
    device = f"{os.major(st.st_dev)}:{os.minor(st.st_dev)}"
    assert read(f"/sys/class/bdi/{device}/read_ahead_kb".encode()) == b"%d\n" % kib


@pytest.mark.needs_extension
def test_what_was_told_before_is_answered_without_python(union, layers):
    """Attributes after a read, which the kernel asks for anew, and the end of a listing."""
    root = union(layers).root
    os.stat(root + b"/sparse")
    before = answered(root)
    with opened(root + b"/sparse", os.O_RDONLY) as fd:
        os.pread(fd, 1, HOLE)
        os.fstat(fd)
    assert answered(root) == before + 1
    os.listdir(root + b"/dir")
    os.stat(root + b"/dir")
    assert answered(root) >= before + 3


@pytest.mark.needs_extension
def test_whether_a_file_is_a_terminal_is_answered_without_python(union, layers):
    """Python asks that of each file that it opens; and it changes nothing that is known."""
    root = union(layers).root
    os.stat(root + b"/sparse")
    before = answered(root)
    with opened(root + b"/sparse", os.O_RDONLY) as fd:
        assert not os.isatty(fd)
        with refused(errno.ENOTTY):
            fcntl.ioctl(fd, termios.TCGETS, bytes(64))
        os.pread(fd, 1, HOLE)
        os.fstat(fd)
    assert answered(root) == before + 3


@pytest.mark.needs_extension
def test_removing_one_leaves_the_others_to_the_extension(scratch, union):
    """Each removal in a directory is followed by a question for its attributes."""
    root = union(build_stack(scratch + b"/s", [[]])).root
    names = [root + b"/dir/%d" % number for number in range(20)]
    os.mkdir(root + b"/dir")
    for name in names:
        os.mkdir(name)
    links = os.stat(root + b"/dir").st_nlink
    with opened(names[0], os.O_RDONLY) as gone:
        os.fstat(gone)
        before = answered(root)
        for name in names:
            os.rmdir(name)
            links -= 1
            assert os.stat(root + b"/dir").st_nlink == links
        assert answered(root) - before >= len(names) - 1
        assert os.fstat(gone).st_nlink == 0
