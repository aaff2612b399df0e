"""Calls relative to a descriptor: what they follow, what they leave, what they do at the limits."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from unionfs.syscalls import at

DIR = os.O_RDONLY | os.O_DIRECTORY


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, DIR)
    yield fd
    os.close(fd)


def _opened() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    ("path", "number"),
    [
        (b"../x", errno.EXDEV),
        (b"/etc/passwd", errno.EXDEV),
        (b"a/../../x", errno.EXDEV),
        (b"link/passwd", errno.ELOOP),
        (b"link", errno.ELOOP),
        (b"a/up/x", errno.ELOOP),
        (b"none", errno.ENOENT),
        (b"file/x", errno.ENOTDIR),
    ],
)
def test_open_beneath_leaves_by_no_way(root: int, tmp_path: Path, path: bytes, number: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("/etc")
    (tmp_path / "a" / "up").symlink_to("..")
    with pytest.raises(OSError) as caught:
        at.open_beneath(root, path, os.O_RDONLY)
    assert caught.value.errno == number


def test_open_beneath_walks_paths_longer_than_path_max(root: int) -> None:
    name = b"d" * 200
    here = os.dup(root)
    for _ in range(50):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, DIR, dir_fd=here)
        os.close(here)
        here = below
    deepest = os.fstat(here).st_ino
    os.close(here)
    opened = _opened()
    fd = at.open_beneath(root, b"/".join([name] * 50), DIR)
    assert os.fstat(fd).st_ino == deepest
    assert not os.get_inheritable(fd)
    os.close(fd)
    with pytest.raises(FileNotFoundError):
        at.open_beneath(root, b"/".join([name] * 50) + b"/none", DIR)
    with pytest.raises(FileNotFoundError):
        at.open_beneath(root, b"/".join([b"none"] * 1000), DIR)
    assert _opened() == opened


def test_open_dir_follows_no_link(root: int, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(".")
    with pytest.raises(NotADirectoryError):
        at.open_dir(root, b"link")


def test_rename_flags(root: int, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    (tmp_path / "two").write_text("2")
    with pytest.raises(FileExistsError, match="one -> two"):
        at.renameat2(root, b"one", root, b"two", at.RENAME_NOREPLACE)
    at.renameat2(root, b"one", root, b"two", at.RENAME_EXCHANGE)
    assert (tmp_path / "one").read_text() == "2"
    at.renameat2(root, b"one", root, b"two")
    assert os.listdir(tmp_path) == ["two"]


def test_a_symbolic_link_is_linked_itself(root: int, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    os.link(b"link", b"other", src_dir_fd=root, dst_dir_fd=root, follow_symlinks=False)
    assert os.readlink(tmp_path / "other") == "nowhere"
    held = os.open(tmp_path / "link", os.O_PATH | os.O_NOFOLLOW)
    at.link_fd(held, root, b"third")
    os.close(held)
    assert os.lstat(tmp_path / "third").st_nlink == 3
    assert at.exists(root, b"third")
    assert not at.exists(root, b"fourth")


def test_a_nameless_file_gets_a_name(root: int, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_TMPFILE | os.O_WRONLY, 0o600)
    os.write(fd, b"x")
    at.link_fd(fd, root, b"file")
    os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"x"
