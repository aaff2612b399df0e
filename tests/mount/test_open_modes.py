"""What was opened stays open, whatever the file's mode says by then: the daemon is no superuser."""

from __future__ import annotations

import os
import struct
import sys

import pytest

from tests.support.files import opened
from tests.support.stacks import File, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

NOBODY = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, 0, 2**32 - 1) for tag in (0x01, 0x04, 0x20)
)


def _closed(fd: int) -> None:
    os.fchmod(fd, 0)


def _closed_by_acl(fd: int) -> None:
    os.setxattr(fd, "system.posix_acl_access", NOBODY)


@pytest.fixture
def root(scratch, union):
    files = [File(name, b"content", 7) for name in (b"lower", b"kept")]
    files.append(File(b"sealed", b"sealed", 6, mode=0o444))
    layers = build_stack(scratch + b"/s", [files])
    with open(layers.upper + b"/upper", "wb") as file:
        file.write(b"content")
    return union(layers, program=[sys.executable, "-m", "tests.support.plain_user"]).root


@pytest.mark.parametrize("close", [_closed, _closed_by_acl])
@pytest.mark.parametrize("name", [b"lower", b"upper"])
def test_who_opened_a_file_for_writing_writes_it(root, name, close):
    with opened(root + b"/" + name, os.O_RDWR) as fd:
        close(fd)
        assert os.stat(root + b"/" + name).st_mode & 0o777 == 0
        assert os.pwrite(fd, b"C", 0) == 1
        os.ftruncate(fd, 4)
        assert os.pread(fd, 9, 0) == b"Cont"


@pytest.mark.parametrize("name", [b"lower", b"upper"])
def test_who_opened_a_file_for_reading_reads_it(root, name):
    with opened(root + b"/" + name, os.O_RDONLY) as fd:
        _closed(fd)
        assert os.pread(fd, 9, 0) == b"content"


def test_a_file_that_is_read_only_is_read(root):
    os.chmod(root + b"/kept", 0o444)
    with opened(root + b"/kept", os.O_RDONLY) as fd:
        _closed(fd)
        assert os.pread(fd, 9, 0) == b"content"


@pytest.mark.parametrize("target", [b"made", b"lower", b"upper"])
@pytest.mark.parametrize("source", [b"sealed", b"upper sealed"])
def test_a_read_only_file_is_copied_by_who_made_the_copy_read_only(root, source, target):
    """``cp -p`` by copy_file_range(2): the copy has its mode before its last bytes."""
    path = root + b"/" + target
    if source == b"upper sealed":
        with opened(root + b"/" + source, os.O_WRONLY | os.O_CREAT, 0o444) as fd:
            os.write(fd, b"sealed")
    with (
        opened(root + b"/" + source, os.O_RDONLY) as old,
        opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as new,
    ):
        os.fchmod(new, 0o444)
        assert os.copy_file_range(old, new, 2) == 2
        assert os.copy_file_range(old, new, 100) == 4
        assert os.copy_file_range(old, new, 100) == 0
        assert os.stat(path).st_mode & 0o777 == 0o444
    with opened(path, os.O_RDONLY) as fd:
        assert os.pread(fd, 9, 0) == b"sealed"
