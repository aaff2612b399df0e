"""Whoever changes a file's content takes its set-id bits, in whatever way, unless he is root.

As on ext4, where each case runs as well: write(2), truncate(2), fallocate(2), copy_file_range(2).
"""

from __future__ import annotations

import os
import stat

import pytest

from tests.support import kernel
from tests.support.files import as_user, opened, write
from tests.support.stacks import File, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

OWNER = 1000
KEEP_SIZE, PUNCH, ZERO = 1, 2, 16


def _copy(fd: int) -> None:
    with opened(b"/proc/self/fd/%d" % fd, os.O_RDONLY) as source:
        os.copy_file_range(source, fd, 100, 0, 5000)


WAYS = {
    "write": lambda fd: os.pwrite(fd, b"x", 0),
    "truncate": lambda fd: os.ftruncate(fd, 10),
    "allocate": lambda fd: kernel.fallocate(fd, 0, 0, 20_000),
    "allocate, size kept": lambda fd: kernel.fallocate(fd, KEEP_SIZE, 0, 20_000),
    "punch": lambda fd: kernel.fallocate(fd, KEEP_SIZE | PUNCH, 0, 4096),
    "copy": _copy,
}


def _file(path: bytes, mode: int) -> None:
    write(path, b"x" * 8192)
    os.chown(path, OWNER, OWNER)
    os.chmod(path, mode)


def _mode_after(path: bytes, way, user: int) -> int:
    def change() -> None:
        with opened(path, os.O_RDWR) as fd:
            way(fd)

    if user:
        assert as_user(change, uid=user, gid=user) == 0
    else:
        change()
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.fixture
def plain(tmp_path):
    """A directory on the disk that every user may enter."""
    at = tmp_path
    while at != at.parent and not at.stat().st_mode & 0o001:
        at.chmod(at.stat().st_mode | 0o011)
        at = at.parent
    return os.fsencode(tmp_path)


@pytest.mark.needs_extension
@pytest.mark.parametrize("user", [0, OWNER], ids=["root", "owner"])
@pytest.mark.parametrize("mode", [0o6755, 0o2745, 0o4711], ids=oct)
@pytest.mark.parametrize("way", WAYS)
def test_set_id_bits_go_as_on_ext4(scratch, union, plain, way, mode, user):
    layers = build_stack(
        scratch + b"/s", [[File(b"low", b"x", 8192, mode, OWNER, OWNER)], [File(b"other")]]
    )
    root = union(layers).root
    os.chmod(root, 0o777)
    _file(plain + b"/f", mode)
    _file(root + b"/made", mode)
    expected = _mode_after(plain + b"/f", WAYS[way], user)
    assert _mode_after(root + b"/made", WAYS[way], user) == expected
    assert _mode_after(root + b"/low", WAYS[way], user) == expected
