"""Attributes of descriptors, of O_PATH descriptors and of names: never of what a link points to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unionfs.syscalls import xattr
from unionfs.syscalls.at import PathFd, name_path


def test_every_kind_of_target_reaches_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    directory = os.open(tmp_path, os.O_RDONLY)
    plain = os.open(tmp_path / "file", os.O_RDONLY)
    held = PathFd(os.open(tmp_path / "file", os.O_PATH))
    for number, target in enumerate((plain, held, name_path(directory, b"file"))):
        value = b"%d" % number
        xattr.set_(target, b"user.x", value)
        assert [xattr.get(t, b"user.x") for t in (plain, held)] == [value, value]
        assert xattr.names(target) == [b"user.x"]
        assert xattr.get_all(target) == {b"user.x": value}
        xattr.remove(target, b"user.x")
        assert xattr.get(target, b"user.x") is None
    for fd in (directory, plain, held):
        os.close(fd)


def test_create_and_replace(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path)
    with pytest.raises(OSError, match="No data"):
        xattr.set_(path, b"user.x", b"1", os.XATTR_REPLACE)
    xattr.set_(path, b"user.x", b"1", os.XATTR_CREATE)
    with pytest.raises(FileExistsError):
        xattr.set_(path, b"user.x", b"2", os.XATTR_CREATE)
    assert xattr.get(path, b"user.x") == b"1"


@pytest.mark.needs_root
def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    path = os.fsencode(tmp_path / "link")
    held = PathFd(os.open(path, os.O_PATH | os.O_NOFOLLOW))
    xattr.set_(path, b"trusted.one", b"1")
    xattr.set_(held, b"trusted.two", b"2")
    assert sorted(xattr.names(held)) == [b"trusted.one", b"trusted.two"]
    assert xattr.names(os.fsencode(tmp_path / "file")) == []
    os.close(held)


def test_what_is_missing_is_an_error_and_what_cannot_be_is_none() -> None:
    with pytest.raises(FileNotFoundError):
        xattr.get(b"/none", b"user.x")
    assert xattr.get(b"/proc/self", b"user.x") is None
    assert xattr.names(b"/proc/self") == []


@pytest.mark.needs_root
def test_an_empty_capability_is_there_and_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = os.fsencode(tmp_path / "file")
    xattr.set_(path, b"security.capability", b"")
    assert xattr.has(path, b"security.capability")
    assert not xattr.has(path, b"user.x")
    assert xattr.get_valid(path, b"security.capability") is None
    assert xattr.get_all(path) == {}
