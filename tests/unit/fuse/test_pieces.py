"""Listings through the handlers, without FUSE: piece by piece, as the kernel reads them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pyfuse3
import pytest
import trio
import trio.testing

from tests.support.worlds import ROOT, World
from tests.unit.fuse.conftest import Build
from unionfs.union.node import Node

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("inline")]


class Listing:
    """Reads a directory as the kernel does, *room* entries at a time."""

    def __init__(self, world: World, ino: int, room: int, patch: pytest.MonkeyPatch) -> None:
        self.world, self.room = world, room
        self.names: list[bytes] = []
        self.left = 0
        self.position = 0
        self.handle = world.do("opendir", ino, ROOT)
        patch.setattr(pyfuse3, "readdir_reply", self._reply)

    def _reply(self, token: object, name: bytes, attr: Any, position: int) -> bool:
        if not self.left:
            return False
        self.left -= 1
        self.names.append(name)
        self.position = position
        return True

    def more(self) -> bool:
        """Read a piece; return False at the end."""
        self.left = self.room
        self.world.do("readdir", self.handle, self.position, None)
        return self.left < self.room

    def rest(self) -> list[bytes]:
        while self.more():
            pass
        return sorted(self.names)


def test_a_listing_in_pieces_is_whole_while_names_come_and_go(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        (lower / f"{number:02}").touch()
    world = build()
    first = Listing(world, 1, 3, monkeypatch)
    first.more()
    gone, stays = sorted(world.names(b"").copy())[-1], sorted(first.names)
    world.unlink(gone)
    world.create(b"new")
    second = Listing(world, 1, 4, monkeypatch)
    assert second.rest() == sorted([b".", b"..", *world.names(b"")])
    monkeypatch.setattr(pyfuse3, "readdir_reply", first._reply)
    everything = first.rest()
    assert len(everything) == len(set(everything))
    assert set(stays) <= set(everything)
    assert set(world.names(b"")) - {b"new"} <= set(everything)


def test_an_entry_that_cannot_be_shown_ends_the_piece_before_it(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error took the piece's other entries along, and their references were counted for ever:
    such a file's room on the disk was not given back when it was removed.
    """
    world = build()
    for name in (b"1", b"2", b"3"):
        world.create(name)
    names = world.names(b"")
    last = world.tree.load(world.tree.root)[names[-1]]
    stat_of = world.tree.stat
    reader = Listing(world, 1, 9, monkeypatch)

    def damaged(node: Node) -> os.stat_result:
        if node is last:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return stat_of(node)

    for node in world.tree.load(world.tree.root).values():
        node.attr = None
    before = {name: world.tree.load(world.tree.root)[name].nlookup for name in names}
    monkeypatch.setattr(world.tree, "stat", damaged)
    assert reader.more() and reader.names == [b".", b"..", *names[:-1]]
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output"):
            reader.more()
    for name in names[:-1]:
        node = world.tree.load(world.tree.root)[name]
        assert node.nlookup == before[name] + reader.names.count(name)
    assert last.nlookup == before[names[-1]]
    monkeypatch.setattr(world.tree, "stat", stat_of)
    assert reader.rest() == sorted([b".", b"..", *names])


def test_nobody_begins_while_the_kernel_forgets_what_others_have_read(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One had the old listing forgotten, others began meanwhile, were sent on in it by the kernel
    and missed names that had come back. But some are left to answer, however many begin.
    """
    world = build()
    ops, root = world.ops, pyfuse3.ROOT_INODE
    ops.by_node = True
    monkeypatch.setattr(pyfuse3, "readdir_reply", lambda *args: True)
    monkeypatch.setattr(ops._aside, "did", lambda call: False)
    answered: list[int] = []

    async def read(reader: int, position: int) -> None:
        await ops.readdir(root, position, None)
        answered.append(reader)

    async def many() -> None:
        end = trio.Event()

        async def forget(node: Node) -> bool:
            await end.wait()
            return True

        monkeypatch.setattr(ops, "flush_maps", forget)
        world.create(b"a")
        await ops.readdir(root, 0, None)
        world.create(b"b")
        async with trio.open_nursery() as readers:
            for reader in range(10):
                readers.start_soon(read, reader, 0)
                await trio.testing.wait_all_tasks_blocked()
            assert answered == []
            readers.start_soon(read, 100, 3)
            await trio.testing.wait_all_tasks_blocked()
            assert answered == [100]
            for reader in range(10, 60):
                readers.start_soon(read, reader, 0)
            await trio.testing.wait_all_tasks_blocked()
            assert len(answered) > 25
            end.set()
        assert len(answered) == 61

    trio.run(many)
