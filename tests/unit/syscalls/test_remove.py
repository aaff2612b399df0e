"""Removing trees: everything inside goes, nothing outside does."""

from __future__ import annotations

import ctypes
import os

import pytest

from unionfs.syscalls.remove import remove_tree


def remove(parent, name: bytes) -> None:
    fd = os.open(parent, os.O_RDONLY)
    try:
        remove_tree(fd, name)
    finally:
        os.close(fd)


def test_a_tree_with_everything_in_it(tmp_path):
    outside = tmp_path / "outside"
    (outside / "dir").mkdir(parents=True)
    (outside / "file").write_text("kept")
    tree = tmp_path / "tree"
    for name in ("a/b/c", "a/d", "e"):
        (tree / name).mkdir(parents=True)
    (tree / "a/f").write_text("x")
    (tree / "a/link").symlink_to(outside)
    (tree / "up").symlink_to("..")
    (tree / b"\xff".decode(errors="surrogateescape")).write_text("x")
    os.mkfifo(tree / "fifo")
    before = os.listdir("/proc/self/fd")
    remove(tmp_path, b"tree")
    assert os.listdir(tmp_path) == ["outside"]
    assert sorted(os.listdir(outside)) == ["dir", "file"]
    assert os.listdir("/proc/self/fd") == before


def test_other_things(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to("kept")
    remove(tmp_path, b"link")
    assert os.listdir(tmp_path) == ["kept"]
    with pytest.raises(FileNotFoundError):
        remove(tmp_path, b"missing")


@pytest.mark.needs_root
def test_an_owner_without_permissions_on_his_own_directories(tmp_path):
    top = tmp_path / "top"
    for name in (top, top / "tree", top / "tree/closed", top / "tree/closed/deep"):
        name.mkdir(exist_ok=True)
        os.chown(name, 65534, 65534)
    for name in (top / "tree/closed/deep", top / "tree/closed", top / "tree"):
        name.chmod(0)
    fd = os.open(top, os.O_RDONLY)
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: or /proc/self/fd is root's
        remove_tree(fd, b"tree")
        os._exit(0)
    os.close(fd)
    assert os.waitpid(child, 0)[1] == 0
    assert os.listdir(top) == []
