"""Bytes on disk of a tree that nobody can be trusted to keep still or small."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from unionfs.syscalls.mount import mount, umount
from unionfs.syscalls.treesize import tree_size


def du(path: Path) -> int:
    done = subprocess.run(
        ["du", "--block-size=1", "-sx", path], capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[0])


def test_it_counts_as_du_does(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    (top / "a/data").write_bytes(b"x" * 100_000)
    (top / "a/b/more").write_bytes(b"x" * 5_000)
    os.link(top / "a/data", top / "a/b/again")
    with open(top / "sparse", "wb") as file:
        file.truncate(1 << 30)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/huge").write_bytes(b"x" * 1_000_000)
    (top / "link").symlink_to(tmp_path / "outside")
    (top / "a/link").symlink_to("/")
    found = tree_size(os.fsencode(top))
    assert found.on_disk == du(top)
    assert found.apparent == 100_000 + 5_000 + (1 << 30)  # each content once
    data = tree_size(os.fsencode(top / "a/data"))
    assert (data.apparent, data.on_disk) == (100_000, du(top / "a/data"))


def test_any_depth(tmp_path: Path) -> None:
    top = os.open(tmp_path, os.O_RDONLY)
    at = os.dup(top)
    for _ in range(1500):
        os.mkdir(b"d" * 9, dir_fd=at)
        below = os.open(b"d" * 9, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    block = os.fstat(at).st_blocks * 512
    os.close(at)
    assert tree_size(os.fsencode(tmp_path)).on_disk == 1501 * block
    os.close(top)
    subprocess.run(["rm", "-rf", str(tmp_path / ("d" * 9))], check=True)


@pytest.mark.needs_root
def test_another_filesystem_is_not_crossed_into(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    before = tree_size(os.fsencode(tmp_path)).on_disk
    point = os.fsencode(tmp_path / "inner")
    mount(b"none", point, b"tmpfs")
    try:
        (tmp_path / "inner/file").write_bytes(b"x" * 1_000_000)
        assert tree_size(os.fsencode(tmp_path)).on_disk <= before
    finally:
        umount(point)


def test_a_link_at_the_top_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    assert tree_size(os.fsencode(tmp_path / "link")) == (0, 0)
    with pytest.raises(FileNotFoundError):
        tree_size(os.fsencode(tmp_path / "nothing"))
