"""What chattr(1) says of a file, and what is forbidden or kept by it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.files import opened, read, refused, write
from tests.support.rawcalls import FS_APPEND, fs_flags, set_fs_flags
from tests.support.stacks import Dir, File, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]
needs_extension = pytest.mark.needs_extension


def _flags(path: bytes) -> int:
    with opened(path, os.O_RDONLY) as fd:
        return fs_flags(fd)


@contextmanager
def _flagged(path: bytes, flag: int) -> Iterator[None]:
    """Set *flag* on *path* while the block runs; left set, nobody could remove the file."""
    with opened(path, os.O_RDONLY) as fd:
        set_fs_flags(fd, flag)
        try:
            yield
        finally:
            set_fs_flags(fd, 0, flag)


def _append(path: bytes, data: bytes) -> None:
    with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
        assert os.write(fd, data) == len(data)


@pytest.fixture
def layers(scratch):
    return build_stack(scratch + b"/s", [[File(b"file", b"low", 3), Dir(b"dir"), File(b"dir/f")]])


@needs_extension
def test_an_append_only_file_can_be_appended_to_and_no_more(union, layers):
    path = union(layers).root + b"/file"
    with opened(path, os.O_RDWR) as fd:
        os.pwrite(fd, b"L", 0)
        with _flagged(path, FS_APPEND):
            _append(path, b" more")
            _append(path, b" and more")
            with refused(errno.EPERM):
                os.pwrite(fd, b"x", 1)
            with refused(errno.EPERM):
                os.truncate(path, 1)
            assert read(path) == b"Low more and more"
            assert os.stat(path).st_size == 17
        os.pwrite(fd, b"l", 0)
    assert read(path) == b"low more and more"


def test_a_file_that_was_append_only_before_the_mount(union, layers):
    write(layers.upper + b"/file", b"log")
    with _flagged(layers.upper + b"/file", FS_APPEND):
        path = union(layers).root + b"/file"
        _append(path, b"ged")
        assert read(path) == b"logged"
