"""A directory that is copied whole where small files are copied at once, as nothing is synced."""

from __future__ import annotations

import errno
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyfuse3
import pytest
import trio

from tests.support.worlds import ROOT, World
from tests.unit.fuse.conftest import Build
from unionfs.syscalls.copy import KeepGoing
from unionfs.upper import rename
from unionfs.upper.copyup import FileCopy

COUNT = 5

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.trio,
    pytest.mark.usefixtures("plain_mask"),
]


@pytest.fixture(autouse=True)
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories have to be copied whole."""
    monkeypatch.setattr(rename, "_REDIRECT_MAX", 0)
    monkeypatch.setattr(pyfuse3, "invalidate_inode", lambda *_args, **_kwargs: None)


def _each(monkeypatch: pytest.MonkeyPatch, then: Callable[[int], object]) -> None:
    """Call *then* after each copy, with how many there were."""
    real, count = FileCopy.copy, 0

    def copy(self: FileCopy, keep_going: KeepGoing | None = None) -> None:
        nonlocal count
        real(self, keep_going)
        count += 1
        then(count)

    monkeypatch.setattr(FileCopy, "copy", copy)


def _world(lower: Path, build: Build) -> World:
    (lower / "dir").mkdir()
    for number in range(COUNT):
        (lower / "dir" / f"{number}").write_bytes(b"content")
    world = build()
    assert world.ops.upper is not None
    world.ops.upper.volatile = True
    return world


async def test_others_have_their_turn_after_each_of_a_directory(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _world(lower, build)
    made, seen, over = [0], [0], trio.Event()
    _each(monkeypatch, made.append)

    async def look() -> None:
        while not over.is_set():
            seen.append(made[-1])
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await trio.lowlevel.checkpoint()
        await world.ops.rename(1, b"dir", 1, b"moved", 0, ROOT)
        over.set()
    seen.append(made[-1])
    assert len(made) == COUNT + 1
    # A turn of the scheduler has the two in any order, so two copies may be next to each other.
    assert all(after - before <= 2 for before, after in pairwise(seen))


async def test_a_directory_is_not_copied_to_its_end_when_the_mount_ends(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, made = _world(lower, build), []

    def copied(count: int) -> None:
        made.append(count)
        world.ops.leaving = True

    _each(monkeypatch, copied)
    with pytest.raises(pyfuse3.FUSEError) as refused:
        await world.ops.rename(1, b"dir", 1, b"moved", 0, ROOT)
    assert refused.value.errno == errno.EIO
    assert made == [1]
