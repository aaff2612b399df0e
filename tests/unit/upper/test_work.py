"""The work directory: one mount at a time, empty at the beginning, nothing left at the end."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.support.kernel import getdents
from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.whiteout import is_whiteout, is_whiteout_file, make_whiteout
from unionfs.union.layer import FdPool, Layer
from unionfs.union.tree import Tree
from unionfs.upper.upper import Upper
from unionfs.upper.work import (
    BadWorkDirError,
    IncompatibleUpperError,
    UpperInUseError,
    VolatileUpperError,
    WorkDir,
    discard,
)


def _names(path: Path) -> list[str]:
    return sorted(os.listdir(path / "work"))


def test_what_a_killed_daemon_left_is_cleared_and_the_index_is_not(tmp_path: Path) -> None:
    (tmp_path / "work" / "#1" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "work" / "#1" / "file").touch()
    (tmp_path / "work" / "#2").symlink_to(tmp_path)
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "00fb").touch()
    work = WorkDir(os.fsencode(tmp_path))
    assert _names(tmp_path) == []
    assert work.has_index()
    work.close()
    assert os.listdir(tmp_path / "index") == ["00fb"]


def test_nothing_temporary_is_left_wherever_the_descriptor_stands(tmp_path: Path) -> None:
    """btrfs lists only what was there when it was opened or rewound."""
    work = WorkDir(os.fsencode(tmp_path))
    work.stock()
    assert getdents(work.fd)[2:]  # it stands behind the last name now
    work.close()
    assert _names(tmp_path) == []


def test_a_second_mount_is_refused_by_name_and_let_in_afterwards(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path)
    first = WorkDir(path)
    with pytest.raises(UpperInUseError, match=f"{tmp_path} is in use"):
        WorkDir(path, wait=0.05)
    first.close()
    WorkDir(path, wait=0.0).close()


def test_a_missing_workdir_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadWorkDirError, match=f"{tmp_path}/none: No such file"):
        WorkDir(os.fsencode(tmp_path / "none"))


def test_a_link_called_work_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").touch()
    (tmp_path / "workdir").mkdir()
    (tmp_path / "workdir" / "work").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadWorkDirError, match=f"{tmp_path}/workdir: Not a directory"):
        WorkDir(os.fsencode(tmp_path / "workdir"))
    assert os.listdir(tmp_path / "elsewhere") == ["precious"]


def test_a_volatile_upper_that_was_not_unmounted_is_refused(tmp_path: Path) -> None:
    work = WorkDir(os.fsencode(tmp_path))
    work.mark_volatile()
    os.close(work.fd)
    os.close(work._root)  # as if killed
    with pytest.raises(VolatileUpperError, match="incompat/volatile"):
        WorkDir(os.fsencode(tmp_path))
    os.rmdir(tmp_path / "work" / "incompat" / "volatile")
    work = WorkDir(os.fsencode(tmp_path))
    work.mark_volatile()
    work.close()
    WorkDir(os.fsencode(tmp_path)).close()


def test_a_feature_that_nobody_knows_is_refused_and_stays(tmp_path: Path) -> None:
    """As the kernel does, where it did not write it itself."""
    feature = tmp_path / "work" / "incompat" / "later"
    feature.mkdir(parents=True)
    with pytest.raises(IncompatibleUpperError, match="feature later"):
        WorkDir(os.fsencode(tmp_path))
    feature.rmdir()
    WorkDir(os.fsencode(tmp_path)).close()


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("..")])
def test_an_index_that_is_no_directory_is_refused(tmp_path: Path, make, writable: bool) -> None:
    make(tmp_path / "index")
    with pytest.raises(BadWorkDirError, match="index"):
        WorkDir(os.fsencode(tmp_path), writable=writable)


def test_whiteouts_share_an_inode_and_cover_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dir").mkdir()
    fd = os.open(tmp_path, os.O_RDONLY)
    work = WorkDir(os.fsencode(tmp_path))
    work.whiteout(fd, b"one")
    work.cover(fd, b"file")
    one, covered = os.lstat(tmp_path / "one"), os.lstat(tmp_path / "file")
    assert is_whiteout(covered)
    assert one.st_ino == covered.st_ino
    with pytest.raises(FileExistsError):
        work.whiteout(fd, b"one")
    with pytest.raises(IsADirectoryError):
        work.cover(fd, b"dir")
    assert len(_names(tmp_path)) == 1
    work.close()
    os.close(fd)
    assert _names(tmp_path) == []


def test_where_no_device_can_be_made_whiteouts_are_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(dir_fd: int, name: bytes) -> None:
        raise PermissionError(errno.EPERM, "no devices", name)

    monkeypatch.setattr("unionfs.upper.work.make_whiteout", refuse)
    fd = os.open(tmp_path, os.O_RDONLY)
    work = WorkDir(os.fsencode(tmp_path))
    with pytest.raises(PermissionError):
        work.whiteout(fd, b"one")  # nobody said what to mark it with
    work.mark = Flavour.USER.whiteout
    work.whiteout(fd, b"one")
    monkeypatch.setattr("unionfs.upper.work.share_whiteout", _full)
    work.whiteout(fd, b"two")
    with pytest.raises(FileExistsError):
        work.whiteout(fd, b"one")
    for name in ("one", "two"):
        path = os.fsencode(tmp_path / name)
        assert is_whiteout_file(os.lstat(path), path, Flavour.USER.whiteout)
    work.close()
    os.close(fd)
    assert _names(tmp_path) == []


def _full(from_fd: int, whiteout: bytes, dir_fd: int, name: bytes) -> None:
    raise OSError(errno.EMLINK, "too many links", name)


def test_discard_removes_everything_and_follows_nothing(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    (tmp_path / "tree" / "a" / "b").mkdir(parents=True)
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "outside")
    fd = os.open(tmp_path / "tree" / "a", os.O_RDONLY)
    make_whiteout(fd, b"whiteout")
    os.close(fd)
    fd = os.open(tmp_path, os.O_RDONLY)
    opened = len(os.listdir("/proc/self/fd"))
    discard(fd, b"tree")
    discard(fd, b"tree")
    assert len(os.listdir("/proc/self/fd")) == opened
    os.close(fd)
    assert os.listdir(tmp_path) == ["outside"]
    assert os.listdir(tmp_path / "outside") == ["file"]


def test_upper_and_work_on_two_filesystems_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = FdPool(64)
    layer = Layer(os.fsencode(tmp_path), 0, Flavour.USER, pool)
    (tmp_path / "workdir").mkdir()
    work = WorkDir(os.fsencode(tmp_path / "workdir"))
    work.device += 1
    with pytest.raises(BadWorkDirError, match="different filesystems"):
        Upper(Tree([layer], pool), work)
    work.close()
    layer.close()
