"""After a copy-up every reader sees the right bytes, whichever way it came to the file.

One system of this kind returned old content padded with zeros, another corrupted SQLite and rpm
databases: a lower file's cached pages outlived its copy-up (HOSTILE, "Field bugs").
"""

from __future__ import annotations

import fcntl
import mmap
import os

import pytest

from tests.support.files import opened, read, write
from tests.support.stacks import File, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

SIZE = 300_000
OLD = (b"old " * (SIZE // 4 + 1))[:SIZE]


@pytest.fixture
def path(scratch, union):
    """A file of a lower layer whose pages are in the cache."""
    layers = build_stack(scratch + b"/s", [[File(b"d/f", b"old ", SIZE)], [File(b"other")]])
    where = union(layers).root + b"/d/f"
    assert read(where) == OLD
    return where


@pytest.mark.parametrize("size", [0, 1, 10, 4096, SIZE - 1, SIZE, SIZE + 5000])
def test_overwritten_with_o_trunc(path, size):
    """Shorter, longer or as long: a reader from before and a new one agree."""
    new = os.urandom(size)
    with opened(path, os.O_RDONLY) as before:
        assert os.pread(before, 100, 0) == OLD[:100]
        write(path, new)
        assert os.pread(before, 2 * SIZE, 0) == new
        assert os.fstat(before).st_size == size
    assert read(path) == new


@pytest.mark.parametrize("offset", [0, 1, 4095, 4096, SIZE - 2, SIZE, SIZE + 10_000])
def test_written_in_place(path, offset):
    """Bytes around the written ones stay; a gap reads as zeros."""
    expected = bytearray(OLD.ljust(offset, b"\0"))
    expected[offset : offset + 5] = b"fresh"
    with opened(path, os.O_RDONLY) as before, opened(path, os.O_RDWR) as after:
        assert os.pread(before, 10, 0) == OLD[:10]
        os.pwrite(after, b"fresh", offset)
        assert os.pread(before, 2 * SIZE, 0) == expected
        assert os.pread(after, 2 * SIZE, 0) == expected
    assert read(path) == expected


@pytest.mark.parametrize("size", [0, 5, 4097, SIZE + 5000])
def test_truncated_by_name_and_by_descriptor(path, size):
    expected = OLD[:size].ljust(size, b"\0")
    with opened(path, os.O_RDONLY) as before:
        os.truncate(path, size)
        assert os.pread(before, 2 * SIZE, 0) == expected
    with opened(path, os.O_RDWR) as after:
        os.ftruncate(after, size + 10)
        assert read(path) == expected + bytes(10)


def test_grown_again_after_truncation_shows_zeros(path):
    """Nothing of the old content comes back from a cached page."""
    os.truncate(path, 10)
    os.truncate(path, SIZE)
    assert read(path) == OLD[:10] + bytes(SIZE - 10)


def test_append_through_an_old_append_descriptor(path):
    with (
        opened(path, os.O_WRONLY | os.O_APPEND) as one,
        opened(path, os.O_WRONLY | os.O_APPEND) as two,
    ):
        os.write(one, b"one")
        os.write(two, b"two")
        os.write(one, b"three")
    assert read(path) == OLD + b"onetwothree"


def test_a_mapping_made_after_the_copy_up_sees_writes(path):
    with opened(path, os.O_RDONLY) as reader, opened(path, os.O_RDWR) as writer:
        os.pwrite(writer, b"fresh", 5)
        with mmap.mmap(reader, SIZE, prot=mmap.PROT_READ) as seen:
            assert seen[:15] == OLD[:5] + b"fresh" + OLD[10:15]
            os.pwrite(writer, b"again", 4096)
            assert seen[4096:4101] == b"again"


def test_a_shared_mapping_of_the_copy_is_written_and_read(path):
    with (
        opened(path, os.O_RDONLY) as before,
        opened(path, os.O_RDWR) as fd,
        mmap.mmap(fd, SIZE) as mapped,
    ):
        mapped[100:105] = b"fresh"
        mapped.flush()
        assert os.pread(before, 10, 98) == OLD[98:100] + b"fresh" + OLD[105:108]
        os.pwrite(fd, b"other", 200_000)
        assert mapped[200_000:200_005] == b"other"
    assert read(path)[100:105] == b"fresh"


def test_a_private_mapping_from_before_is_readable(path):
    """Its bytes may be old ones (as on the kernel's overlayfs), but never zeros or an error."""
    with (
        opened(path, os.O_RDONLY) as fd,
        mmap.mmap(fd, SIZE, mmap.MAP_PRIVATE, mmap.PROT_READ) as seen,
    ):
        assert seen[:4] == OLD[:4]
        with opened(path, os.O_WRONLY) as writer:
            os.pwrite(writer, b"new", 0)
        assert seen[:4] in (OLD[:4], b"new" + OLD[3:4])
        assert seen[SIZE - 4 :] == OLD[SIZE - 4 :]


def test_locks_and_identity_stay_with_the_file(path):
    """A lock taken before the copy-up keeps out whoever opens the file after it."""
    with opened(path, os.O_RDONLY) as before:
        number = os.fstat(before).st_ino
        fcntl.flock(before, fcntl.LOCK_EX)
        with opened(path, os.O_RDWR) as after:
            os.pwrite(after, b"x", 0)
            assert os.fstat(before).st_ino == os.fstat(after).st_ino == number
            with pytest.raises(BlockingIOError):
                fcntl.flock(after, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert os.lstat(path).st_ino == number


def test_attributes_seen_through_an_old_descriptor(path):
    """chmod, chown and utime by name show in fstat of a descriptor from before the copy-up."""
    with opened(path, os.O_RDONLY) as before:
        os.chmod(path, 0o600)
        os.chown(path, 12, 34)
        os.utime(path, ns=(5, 7))
        os.setxattr(path, "user.new", b"1")
        st = os.fstat(before)
        assert (st.st_mode & 0o7777, st.st_uid, st.st_gid, st.st_mtime_ns) == (0o600, 12, 34, 7)
        assert os.getxattr(before, "user.new") == b"1"
        os.fchmod(before, 0o640)
        assert os.lstat(path).st_mode & 0o7777 == 0o640


def test_copied_by_copy_file_range(path):
    """``cp`` within the mount. (Of and to what is read-only: ``test_open_modes``.)"""
    target = os.path.dirname(path) + b"/copy"
    with opened(path, os.O_RDONLY) as source, opened(target, os.O_WRONLY | os.O_CREAT) as copy:
        done = 0
        while count := os.copy_file_range(source, copy, SIZE):
            done += count
    assert done == SIZE
    assert read(target) == OLD


def test_holes_stay_holes_through_copy_up(scratch, union):
    layers = build_stack(scratch + b"/s", [[File(b"f", b"end", 3, hole=50_000_000)]])
    root = union(layers).root
    with opened(root + b"/f", os.O_RDWR) as fd:
        os.pwrite(fd, b"x", 0)
        os.fsync(fd)
    assert os.lstat(root + b"/f").st_size == 50_000_003
    assert os.lstat(layers.upper + b"/f").st_blocks * 512 < 1_000_000
    assert read(root + b"/f")[-3:] == b"end"


def test_only_what_a_change_needs_is_copied(scratch, union):
    """Reading, listing and asking copy nothing up."""
    layers = build_stack(scratch + b"/s", [[File(b"d/f"), File(b"d/g")]])
    root = union(layers).root
    read(root + b"/d/f")
    os.listdir(root + b"/d")
    os.access(root + b"/d/f", os.W_OK)
    with opened(root + b"/d/g", os.O_RDONLY):
        pass
    assert os.listdir(layers.upper) == []
