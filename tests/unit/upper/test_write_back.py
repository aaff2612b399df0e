"""Writing what a mapping holds, which takes no privileges from a file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from unionfs.syscalls.capability import CAPABILITY
from unionfs.upper.attributes import write_back

pytestmark = pytest.mark.needs_root
VALUE = bytes.fromhex("0100000200040000000000000000000000000000")


@pytest.fixture
def fd(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o4755)
    os.setxattr(path, CAPABILITY, VALUE)
    opened = os.open(path, os.O_RDWR)
    yield opened
    os.close(opened)


def test_what_a_write_takes_is_put_back(fd: int):
    assert write_back(fd, b"NEW", 0) == 3
    assert (os.pread(fd, 9, 0), os.getxattr(fd, CAPABILITY)) == (b"NEW", VALUE)
    assert os.fstat(fd).st_mode & 0o7777 == 0o4755


def test_also_when_the_write_fails(fd: int, monkeypatch: pytest.MonkeyPatch):
    """On a full disk Linux has removed them before it finds that there is no room."""

    def full(file: int, *_: object) -> int:
        os.removexattr(file, CAPABILITY)
        os.fchmod(file, 0o755)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        write_back(fd, b"NEW", 0)
    assert os.getxattr(fd, CAPABILITY) == VALUE
    assert os.fstat(fd).st_mode & 0o7777 == 0o4755


def test_a_capability_that_cannot_be_put_back_is_no_failed_write(fd: int, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("unionfs.syscalls.xattr.set_", full)
    assert write_back(fd, b"NEW", 0) == 3
