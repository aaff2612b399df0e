"""Owners, modes and types in an attribute: what others write, and what we do."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from unionfs.ondisk import acl, override
from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.override import Override, OverrideNames, Spelling

_EVERY = Override(1, 2, 0o644)


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        (b"1:2:0644:file", _EVERY._replace(kind=stat.S_IFREG)),
        (b"1:2:0644:dir", _EVERY._replace(kind=stat.S_IFDIR)),
        (b"1:2:0644:symlink", _EVERY._replace(kind=stat.S_IFLNK)),
        (b"1:2:0644:pipe", _EVERY._replace(kind=stat.S_IFIFO)),
        (b"1:2:0644:socket", _EVERY._replace(kind=stat.S_IFSOCK)),
        (b"1:2:0644:block-8-0", Override(1, 2, 0o644, stat.S_IFBLK, os.makedev(8, 0))),
        (b"1:2:0644:char-10-229", Override(1, 2, 0o644, stat.S_IFCHR, os.makedev(10, 229))),
        (b"4294967294:0:04755:file", Override(0xFFFFFFFE, 0, 0o4755, stat.S_IFREG)),
    ],
)
def test_what_is_written_is_read_again(value: bytes, meaning: Override) -> None:
    assert override.decode(value) == meaning
    assert meaning.encode() == value


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        (b"1:2:644", _EVERY),  # fuse-overlayfs 1: no type
        (b"1:2:100644", _EVERY._replace(kind=stat.S_IFREG)),  # the type in the mode
        (b"1:2:40644\0", _EVERY._replace(kind=stat.S_IFDIR)),
        (b"1:2:100644:symlink", _EVERY._replace(kind=stat.S_IFLNK)),
        (b"1:2:0644:file:later:fields", _EVERY._replace(kind=stat.S_IFREG)),
        (b"1:2:0644:", _EVERY),
    ],
)
def test_what_others_write(value: bytes, meaning: Override) -> None:
    assert override.decode(value) == meaning


@pytest.mark.parametrize(
    "value",
    [b"", b"1:2", b"1:2:", b"x:2:0644", b"1:2:0888", b"-1:2:0644", b"4294967295:0:0644:file",
     b"1:2:0644:door", b"1:2:0644:char-1", b"1:2:0644:block-a-b", b"1:2:0644:char-1-3-5"],
)  # fmt: skip
def test_what_nobody_writes_is_an_error_of_the_disk(value: bytes) -> None:
    with pytest.raises(OSError) as caught:
        override.decode(value)
    assert caught.value.errno == errno.EIO


def test_a_file_is_shown_as_it_says(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"four")
    st = file.stat()
    shown = override.applied(st, Override(7, 8, 0o4711, stat.S_IFBLK, os.makedev(8, 1)))
    assert (shown.st_mode, shown.st_uid, shown.st_gid) == (stat.S_IFBLK | 0o4711, 7, 8)
    assert shown.st_rdev == os.makedev(8, 1)
    for field in ("st_dev", "st_ino", "st_nlink", "st_size", "st_blocks", "st_blksize"):
        assert getattr(shown, field) == getattr(st, field)
    for field in ("st_atime_ns", "st_mtime_ns", "st_ctime_ns"):
        assert getattr(shown, field) == getattr(st, field)
    assert override.of(shown) == Override(7, 8, 0o4711, stat.S_IFBLK, os.makedev(8, 1))


def test_directories_stay_directories_and_nothing_becomes_one(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    for path, said, kind in (
        (tmp_path, stat.S_IFREG, stat.S_IFDIR),
        (tmp_path / "f", stat.S_IFDIR, stat.S_IFREG),
    ):
        shown = override.applied(path.stat(), Override(0, 0, 0, said))
        assert stat.S_IFMT(shown.st_mode) == kind


@pytest.mark.parametrize(
    ("kind", "mode", "disk"),
    [
        (stat.S_IFREG, 0o0000, 0o600),
        (stat.S_IFREG, 0o0644, 0o644),
        (stat.S_IFREG, 0o0660, 0o600),  # the group on disk is another
        (stat.S_IFREG, 0o6755, 0o755),  # set-id bits would work for the importer
        (stat.S_IFDIR, 0o1777, 0o777),
        (stat.S_IFDIR, 0o0500, 0o700),
    ],
)
def test_permissions_on_disk(kind: int, mode: int, disk: int) -> None:
    assert override.disk_mode(kind, mode) == disk


@pytest.mark.parametrize("spelling", list(Spelling))
def test_no_user_of_a_mount_speaks_the_drivers_language(spelling: Spelling) -> None:
    names = OverrideNames(Flavour.USER, spelling)
    for name in (*(each.value for each in Spelling), b"user.containers.override_security.x"):
        assert names.is_reserved(name)
    for name in (b"user.x", b"security.capability", acl.ACCESS, acl.DEFAULT, b"user.overlay.x"):
        assert not names.is_reserved(name)
        assert names.from_disk(names.to_disk(name)) == name
    for each in Spelling:
        assert names.from_disk(each.value) is None
    assert names.to_disk(acl.ACCESS) != acl.ACCESS  # it would take the file from its owner
    assert names.from_disk(acl.ACCESS) is None


def test_the_root_says_how_a_layer_is_kept(tmp_path: Path) -> None:
    assert override.of_layer(os.open(tmp_path, os.O_RDONLY)) is None
    os.setxattr(tmp_path, "user.containers.override_stat", b"0:0:0755")
    assert override.of_layer(os.open(tmp_path, os.O_RDONLY)) is Spelling.CONTAINERS


def test_nobody_waits_for_what_took_a_links_place(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "link")
    folder = os.open(tmp_path, os.O_RDONLY)
    other = os.open(tmp_path / "link", os.O_RDWR)  # who waits for one is not kept waiting
    try:
        with pytest.raises(OSError) as caught:
            override.link_target(folder, b"link")
    finally:
        os.close(other)
        os.close(folder)
    assert caught.value.errno == errno.EIO
