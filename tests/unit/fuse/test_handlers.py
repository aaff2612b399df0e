"""Handlers without FUSE: what they answer, what the kernel is told, and what is let go."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pyfuse3
import pytest

from tests.support.worlds import ROOT, World
from tests.unit.fuse.conftest import Build
from unionfs.fuse import guard
from unionfs.union.node import Node

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("inline")]


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- reading and writing ------------------------------------------------------------------------


def test_every_opener_sees_what_one_writes(lower: Path, build: Build) -> None:
    (lower / "file").write_bytes(b"lower content")
    world = build()
    before = world.open(b"file", os.O_RDONLY)
    writer = world.open(b"file", os.O_WRONLY)
    world.do("write", writer, 0, b"UPPER")
    for handle in (before, world.open(b"file", os.O_RDONLY)):
        assert world.do("read", handle, 0, 100) == b"UPPER content"
    assert world.do("read", before, 6, 3) == b"con"
    assert (lower / "file").read_bytes() == b"lower content"


@pytest.mark.parametrize("flags", [os.O_WRONLY | os.O_TRUNC, os.O_RDONLY | os.O_TRUNC])
def test_truncation_at_opening_reaches_old_readers(lower: Path, build: Build, flags: int) -> None:
    (lower / "file").write_bytes(b"lower content")
    world = build()
    before = world.open(b"file", os.O_RDONLY)
    world.open(b"file", flags)
    assert world.do("read", before, 0, 100) == b""
    assert world.getattr(b"file").st_size == 0


def test_an_unlinked_file_lives_on_for_its_openers(lower: Path, build: Build) -> None:
    (lower / "file").write_bytes(b"content")
    world = build()
    opened = _descriptors()
    ino = world.lookup(b"file")
    handle = world.open(b"file", os.O_RDONLY)
    world.unlink(b"file")
    assert world.do("read", handle, 0, 100) == b"content"
    attr = world.do("getattr", ino, ROOT)
    assert (attr.st_nlink, attr.st_size) == (0, 7)
    writer = int(world.do("open", ino, os.O_WRONLY, ROOT).fh)
    world.do("write", writer, 0, b"NEW")
    world.setattr_of(ino, mode=0o600)
    assert world.do("read", handle, 0, 100) == b"NEWtent"
    for each in (handle, writer):
        world.do("release", each)
    _forget_all(world, ino)
    assert _descriptors() == opened
    assert (lower / "file").read_bytes() == b"content"


def _forget_all(world: World, ino: int) -> None:
    world.do("forget", [(ino, world.ops.inodes[ino].nlookup)])


def test_a_removed_directory_lives_on_without_names(lower: Path, build: Build) -> None:
    (lower / "dir").mkdir(0o755)
    world = build()
    opened = _descriptors()
    ino = world.lookup(b"dir")
    world.rmdir(b"dir")
    with pytest.raises(FileNotFoundError):
        world.do("create", ino, b"file", stat.S_IFREG | 0o644, os.O_RDWR, ROOT)
    assert world.do("lookup", ino, b"file", ROOT).st_ino == 0
    world.setattr_of(ino, mode=0o700)
    assert world.do("getattr", ino, ROOT).st_mode == stat.S_IFDIR | 0o700
    assert (lower / "dir").stat().st_mode & 0o777 == 0o755
    _forget_all(world, ino)
    assert _descriptors() <= opened + 1  # the upper root's part may have been opened meanwhile


def test_write_says_how_much_was_written_before_an_error(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = build()
    world.create(b"file")
    handle = world.open(b"file", os.O_WRONLY)
    answers = iter([4])

    def pwrite(fd: int, data: Any, offset: int) -> int:
        for done in answers:
            return done
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", pwrite)
    assert world.do("write", handle, 0, b"12345678") == 4
    with pytest.raises(OSError, match="No space"):
        world.do("write", handle, 4, b"5678")


# --- errors -------------------------------------------------------------------------------------


def test_a_read_only_union_refuses_every_change(lower: Path, build: Build) -> None:
    (lower / "file").write_bytes(b"x")
    (lower / "dir").mkdir()
    world = build(read_only=True)
    assert world.read(b"file") == b"x"
    changes = [
        lambda: world.write(b"file", b"y"),
        lambda: world.create(b"new"),
        lambda: world.mkdir(b"new"),
        lambda: world.symlink(b"new", b"x"),
        lambda: world.mknod(b"new", stat.S_IFIFO | 0o600),
        lambda: world.link(b"file", b"new"),
        lambda: world.unlink(b"file"),
        lambda: world.rmdir(b"dir"),
        lambda: world.rename(b"file", b"new"),
        lambda: world.setattr(b"file", mode=0o600),
        lambda: world.setxattr(b"file", b"user.x", b"y"),
        lambda: world.do("removexattr", world.lookup(b"file"), b"user.x", ROOT),
    ]
    for change in changes:
        with pytest.raises(OSError, match="Read-only"):
            change()
    assert os.listdir(world.upperdir) == []


@pytest.mark.parametrize(
    ("change", "number"),
    [
        (lambda w: w.unlink(b"dir"), errno.EISDIR),
        (lambda w: w.rmdir(b"file"), errno.ENOTDIR),
        (lambda w: w.rmdir(b"full"), errno.ENOTEMPTY),
        (lambda w: w.unlink(b"none"), errno.ENOENT),
        (lambda w: w.create(b"file"), errno.EEXIST),
        (lambda w: w.create(b".wh.file"), errno.EINVAL),
        (lambda w: w.link(b"file", b".wh.x"), errno.EINVAL),
        (lambda w: w.rename(b"file", b".wh.x"), errno.EINVAL),
        (lambda w: w.lookup(b"n" * 256), errno.ENAMETOOLONG),
        (lambda w: w.create(b"n" * 256), errno.ENAMETOOLONG),
        (lambda w: w.mknod(b"new", stat.S_IFCHR | 0o600, 0), errno.EPERM),
        (lambda w: w.rename(b"dir", b"file"), errno.ENOTDIR),
        (lambda w: w.rename(b"file", b"dir"), errno.EISDIR),
        (lambda w: w.rename(b"dir", b"full"), errno.ENOTEMPTY),
        (lambda w: w.rename(b"file", b"dir", pyfuse3.RENAME_NOREPLACE), errno.EEXIST),
        (lambda w: w.rename(b"file", b"none", pyfuse3.RENAME_EXCHANGE), errno.ENOENT),
        (lambda w: w.rename(b"file", b"none", 4), errno.EINVAL),
        (lambda w: w.do("getxattr", w.lookup(b"file"), b"user.x", ROOT), errno.ENODATA),
        (lambda w: w.do("removexattr", w.lookup(b"file"), b"user.x", ROOT), errno.ENODATA),
    ],
)
def test_errors_are_those_of_a_local_filesystem(lower: Path, build: Build, change, number) -> None:
    (lower / "file").touch()
    (lower / "dir").mkdir()
    (lower / "full" / "inside").mkdir(parents=True)
    world = build()
    before = world.dump()
    with pytest.raises(OSError) as caught:
        change(world)
    assert caught.value.errno == number
    assert world.dump() == before


def test_redirect_dir_off_refuses_to_move_what_has_lower_parts(lower: Path, build: Build) -> None:
    (lower / "dir" / "sub").mkdir(parents=True)
    world = build(redirect_dir=False)
    with pytest.raises(OSError, match="cross-device"):
        world.rename(b"dir", b"moved")
    world.mkdir(b"own")
    world.rename(b"own", b"moved")
    assert world.names(b"") == [b"dir", b"moved"]


def test_an_unforeseen_error_becomes_eio_and_is_counted(
    build: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = build()

    def broken(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(world.tree, "load", broken)
    before = guard.unforeseen
    with pytest.raises(OSError, match="Input/output"):
        world.lookup(b"x")
    assert guard.unforeseen == before + 1
    assert "unforeseen error in lookup" in caplog.text


# --- numbers and what the kernel is told --------------------------------------------------------


def test_numbers_stay_through_copy_up_forgetting_and_remount(lower: Path, build: Build) -> None:
    (lower / "dir").mkdir()
    (lower / "dir" / "file").touch()
    world = build()
    numbers = world.numbers()
    world.setattr(b"dir/file", mode=0o600)
    assert world.numbers() == numbers
    for path in (b"dir/file", b"dir"):
        _forget_all(world, numbers[path])
    assert world.numbers() == numbers
    world.close()
    assert build().numbers() == numbers


def test_a_number_is_not_given_twice_while_its_first_owner_lives(build: Build) -> None:
    world = build()
    world.create(b"first")
    ino = world.lookup(b"first")
    other = Node(world.tree.root, b"other", stat.S_IFREG)
    other.identity = world.node(b"first").identity
    st = os.stat(world.upperdir + b"/first")
    assert world.ops.inodes._number(other, st) != ino


def test_forgetting_a_lower_directory_lets_its_names_go(lower: Path, build: Build) -> None:
    (lower / "dir").mkdir()
    for name in "abc":
        (lower / "dir" / name).touch()
    os.link(lower / "dir" / "a", lower / "linked")
    world = build()
    world.lookup(b"dir/b")
    node = world.node(b"dir")
    _forget_all(world, node.ino)
    assert node.children is not None  # the kernel still knows one of them
    _forget_all(world, world.lookup(b"dir/b"))
    _forget_all(world, world.lookup(b"dir"))
    assert node.children is None
    world.lookup(b"dir/a")
    for path in (b"dir/a", b"dir"):
        _forget_all(world, world.lookup(path))
    assert node.children is None
    number = world.lookup(b"linked")
    _forget_all(world, world.lookup(b"dir"))
    assert node.children is None
    assert world.lookup(b"dir/a") == number
    assert world.node(b"dir/a") is world.node(b"linked")  # which the root has never let go
    world.write(b"linked", b"new")
    assert world.read(b"dir/a") == b"new"


def test_links_are_known_for_as_long_as_something_leads_to_them(lower: Path, build: Build) -> None:
    for folder in "xyz":
        (lower / folder).mkdir()
    for number in range(10):
        (lower / f"x/{number}").touch()
        os.link(lower / f"x/{number}", lower / f"y/{number}")
        if number % 2:
            os.link(lower / f"x/{number}", lower / f"y/{number}-again")
            os.link(lower / f"x/{number}", lower / f"z/{number}")
    world = build()
    numbers = _forget_everything(world)
    assert world.tree.links == {}
    assert world.numbers() == numbers
    world.close()
    world = build()
    world.setattr(b"z/3", mode=0o600)
    assert _forget_everything(world) == numbers
    left = world.node(b"z").children  # z has a copy in the upper, and stays
    assert left is not None
    assert set(world.tree.links.values()) == set(left.values())
    assert world.numbers() == numbers


def _forget_everything(world: World) -> dict[bytes, int]:
    """Look everything up, and take it all back from the deepest level up."""
    numbers = world.numbers()
    paths = sorted(numbers, key=lambda path: path.count(b"/"), reverse=True)
    for ino in dict.fromkeys(numbers[path] for path in paths if path):
        _forget_all(world, ino)
    return numbers


def test_the_kernel_hears_of_directories_that_a_copy_up_changed(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lower / "a" / "b").mkdir(parents=True)
    (lower / "a" / "b" / "file").touch()
    told: list[int] = []
    monkeypatch.setattr(pyfuse3, "invalidate_inode", lambda ino, attr_only: told.append(ino))
    world = build()
    assert world.getattr(b"a/b").st_nlink == 2
    world.write(b"a/b/file", b"x")
    assert {world.lookup(b"a"), world.lookup(b"a/b")} <= set(told)
    assert world.getattr(b"a/b").st_nlink == 1


def test_link_counts_are_the_unions(lower: Path, build: Build) -> None:
    (lower / "one").write_bytes(b"x")
    os.link(lower / "one", lower / "two")
    world = build()
    world.link(b"one", b"three")
    counts = {name: world.getattr(name).st_nlink for name in (b"one", b"two", b"three")}
    assert counts == {b"one": 3, b"two": 3, b"three": 3}
    world.unlink(b"two")
    world.unlink(b"one")
    assert world.getattr(b"three").st_nlink == 1
    world.close()
    again = build()
    assert again.getattr(b"three").st_nlink == 1
    assert again.names(b"") == [b"three"]
    again.unlink(b"three")
    again.close()
    assert os.listdir(world.workdir + b"/index") == []


def test_the_first_sync_of_a_file_is_one_of_its_name_too(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later ones are what was asked for; a database on a preallocated file lives on that."""
    (lower / "file").write_bytes(b"content")
    world = build()
    handle = world.open(b"file", os.O_RDWR)
    made: list[str] = []
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda fd, name=name: made.append(name))
    for datasync in (True, True, False):
        world.do("fsync", handle, datasync)
    world.do("release", handle)
    assert made == ["fsync", "fdatasync", "fsync"]
