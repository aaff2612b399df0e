"""Copies that are made while others work: of whole directories, and of files in threads."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pyfuse3
import pytest
import trio
import trio.testing

from tests.support.worlds import ROOT, World, differences, kernel_dump
from tests.unit.fuse.conftest import Build
from unionfs.syscalls.mount import mount, umount
from unionfs.upper import rename
from unionfs.upper.copyup import FileCopy
from unionfs.upper.data import DataCopy

pytestmark = pytest.mark.needs_root


@pytest.fixture(autouse=True)
def no_redirects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rename, "_REDIRECT_MAX", 0)


@pytest.mark.usefixtures("inline")
def test_an_open_file_goes_on_with_its_copy(lower: Path, build: Build) -> None:
    (lower / "dir").mkdir()
    (lower / "dir" / "file").write_bytes(b"content")
    world = build()
    handle = world.open(b"dir/file", os.O_RDONLY)
    world.rename(b"dir", b"moved")
    world.setattr(b"moved/file", mode=0o600)
    assert world.getattr(b"moved/file").st_mode & 0o7777 == 0o600
    world.setattr(b"moved/file", size=3)
    assert world.do("read", handle, 0, 100) == b"con"
    assert (lower / "dir" / "file").read_bytes() == b"content"


@pytest.mark.usefixtures("inline")
def test_names_that_nobody_looked_up_stay_links_of_one_file(lower: Path, build: Build) -> None:
    (lower / "dir").mkdir()
    (lower / "dir" / "one").write_bytes(b"linked")
    os.link(lower / "dir" / "one", lower / "dir" / "two")
    world = build()
    world.rename(b"dir", b"moved")
    world.write(b"moved/one", b"LINK")
    assert world.read(b"moved/two") == b"LINKed"
    world.close()
    again = build()
    assert again.read(b"moved/two") == b"LINKed"
    assert again.lookup(b"moved/one") == again.lookup(b"moved/two")
    assert again.getattr(b"moved/one").st_nlink == 2


def _slow_copies(
    monkeypatch: pytest.MonkeyPatch, kind: type[FileCopy] | type[DataCopy] = FileCopy
) -> tuple[threading.Event, threading.Event]:
    """Let copies in threads say that they began, and wait for leave to go on."""
    monkeypatch.setattr(pyfuse3, "invalidate_inode", lambda *args, **kwargs: None)
    started, go = threading.Event(), threading.Event()
    real = kind.copy

    def slow(self: FileCopy | DataCopy, *args: object) -> None:
        if threading.current_thread() is not threading.main_thread():
            started.set()
            assert go.wait(10)
        real(self)

    monkeypatch.setattr(kind, "copy", slow)
    return started, go


async def _open_for_writing(world: World, ino: int) -> None:
    info = await world.ops.open(ino, os.O_WRONLY, ROOT)
    await world.ops.write(info.fh, 0, b"WRITTEN")
    await world.ops.release(info.fh)


@pytest.mark.trio
@pytest.mark.usefixtures("plain_mask")
@pytest.mark.parametrize("change", ["unlink", "replace"])
async def test_a_file_that_loses_its_name_while_it_is_copied(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    (lower / "file").write_bytes(b"content of the file")
    world = build()
    world.create(b"other", b"other")
    started, go = _slow_copies(monkeypatch)
    ino = world.lookup(b"file")
    reader = world.open(b"file", os.O_RDONLY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_open_for_writing, world, ino)
        while not started.is_set():
            await trio.sleep(0.001)
        if change == "unlink":
            await world.ops.unlink(1, b"file", ROOT)
        else:
            await world.ops.rename(1, b"other", 1, b"file", 0, ROOT)
        go.set()
    assert world.do("read", reader, 0, 100) == b"WRITTEN of the file"
    assert world.do("getattr", ino, ROOT).st_nlink == 0
    assert world.names(b"") == [b"other" if change == "unlink" else b"file"]
    assert (lower / "file").read_bytes() == b"content of the file"
    assert world.work is not None
    assert set(os.listdir(world.work.fd)) <= {os.fsdecode(world.work._whiteout)}


@pytest.mark.trio
@pytest.mark.usefixtures("plain_mask")
async def test_others_are_answered_while_a_directory_is_copied_whole(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lower / "dir" / "sub").mkdir(parents=True)
    (lower / "dir" / "gone").write_bytes(b"gone")
    (lower / "dir" / "sub" / "file").write_bytes(b"content")
    (lower / "other").write_bytes(b"other")
    world = build()
    sub = world.lookup(b"dir/sub")
    started, go = _slow_copies(monkeypatch)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.ops.rename, 1, b"dir", 1, b"moved", 0, ROOT)
            while not started.is_set():
                await trio.sleep(0.001)
            assert world.read(b"other") == b"other"
            assert world.names(b"dir") == [b"gone", b"sub"]
            await world.ops.unlink(world.lookup(b"dir"), b"gone", ROOT)
            world.create(b"dir/sub/new", b"new")
            nursery.start_soon(world.ops.rename, sub, b"file", sub, b"name", 0, ROOT)
            go.set()
    assert world.names(b"") == [b"moved", b"other"]
    assert world.names(b"moved") == [b"sub"]
    assert world.read(b"moved/sub/name") == b"content"
    assert world.read(b"moved/sub/new") == b"new"
    assert (lower / "dir" / "gone").exists()


@pytest.mark.usefixtures("inline")
def test_a_file_that_the_kernel_copied_without_its_data_gets_it(
    lower: Path, tmp_path: Path, build: Build
) -> None:
    again = _without_its_data(lower, tmp_path, build)
    again.rename(b"dir", b"moved")
    assert again.read(b"moved/file") == b"content"
    again.close()
    assert (tmp_path / "world" / "upper" / "moved" / "file").read_bytes() == b"content"


@pytest.mark.trio
@pytest.mark.usefixtures("plain_mask")
async def test_times_that_are_set_while_data_is_brought_in_stay(
    lower: Path, tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _without_its_data(lower, tmp_path, build)
    started, go = _slow_copies(monkeypatch, DataCopy)
    ino = world.lookup(b"dir/file")
    attr = pyfuse3.EntryAttributes()
    attr.st_mtime_ns = 7
    names = ("mode", "uid", "gid", "size", "atime", "mtime")
    fields = SimpleNamespace(**{f"update_{name}": name == "mtime" for name in names})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.ops.own_data, world.node(b"dir/file"))
        while not started.is_set():
            await trio.sleep(0.001)
        nursery.start_soon(world.ops.setattr, ino, attr, fields, None, ROOT)
        await trio.testing.wait_all_tasks_blocked()
        go.set()
    assert (tmp_path / "world/upper/dir/file").stat().st_mtime_ns == 7
    assert world.getattr(b"dir/file").st_mtime_ns == 7
    assert world.read(b"dir/file") == b"content"


def _without_its_data(lower: Path, tmp_path: Path, build: Build) -> World:
    """Return a mount on an upper in which the kernel has left ``dir/file`` without its data."""
    (lower / "dir").mkdir()
    (lower / "dir" / "file").write_bytes(b"content")
    build().close()
    world = tmp_path / "world"
    merged = tmp_path / "merged"
    merged.mkdir()
    data = f"lowerdir={lower},upperdir={world}/upper,workdir={world}/work,metacopy=on"
    mount(b"overlay", os.fsencode(merged), b"overlay", 0, data.encode())
    (merged / "dir" / "file").chmod(0o600)
    umount(os.fsencode(merged))
    return build()


@pytest.mark.usefixtures("inline")
def test_a_redirect_within_a_directory_needs_no_path(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rename, "_REDIRECT_MAX", 256)
    deep = "/".join(["d" * 200] * 2)
    (lower / deep / "dir").mkdir(parents=True)
    (lower / deep / "dir" / "file").write_bytes(b"content")
    world = build()
    world.rename(f"{deep}/dir".encode(), f"{deep}/moved".encode())
    assert not os.listdir(world.upperdir + f"/{deep}/moved".encode())
    world.rename(f"{deep}/moved".encode(), f"{deep}/again".encode())
    dump = world.dump()
    assert world.read(f"{deep}/again/file".encode()) == b"content"
    world.close()
    assert differences(dump, kernel_dump(world)) == []
    again = build()
    assert differences(dump, again.dump()) == []
    again.rename(f"{deep}/again".encode(), b"elsewhere")
    assert again.read(b"elsewhere/file") == b"content"
    assert os.listdir(again.upperdir + b"/elsewhere") == [b"file"]


@pytest.mark.trio
@pytest.mark.usefixtures("plain_mask")
async def test_a_copy_in_a_thread_that_comes_too_late_is_dropped(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lower / "dir").mkdir()
    (lower / "dir" / "file").write_bytes(b"content of the file")
    world = build()
    started, go = _slow_copies(monkeypatch)
    ino = world.lookup(b"dir/file")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_open_for_writing, world, ino)
        while not started.is_set():
            await trio.sleep(0.001)
        assert world.upper is not None
        rename.make_pure(world.upper, world.node(b"dir"))
        go.set()
    assert world.read(b"dir/file") == b"WRITTEN of the file"
    assert world.work is not None
    assert set(os.listdir(world.work.fd)) <= {os.fsdecode(world.work._whiteout)}
