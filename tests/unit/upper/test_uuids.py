"""Which UUID a lower filesystem is told by, where others have the same one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.worlds import World, without_threads
from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.origin import is_btrfs
from unionfs.upper import upper as module

pytestmark = pytest.mark.needs_root
UUID = bytes(range(16))


@pytest.mark.parametrize(
    ("btrfs", "flavour", "told"),
    [
        pytest.param(False, Flavour.TRUSTED, None, id="two filesystems"),
        pytest.param(True, Flavour.TRUSTED, UUID, id="subvolumes of one btrfs"),
        pytest.param(True, Flavour.USER, None, id="the same where no handle can be opened"),
    ],
)
def test_two_devices_with_one_uuid(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    btrfs: bool,
    flavour: Flavour,
    told: bytes | None,
) -> None:
    """A hard link of a subvolume came apart at the next mount, and inode numbers changed."""
    lowers = [tmp_path / "one", tmp_path / "two"]
    for lower in lowers:
        lower.mkdir()
    without_threads(monkeypatch)
    monkeypatch.setattr(module, "filesystem_uuid", lambda fd: UUID)
    monkeypatch.setattr(module, "is_btrfs", lambda fd: btrfs)
    world = World(os.fsencode(tmp_path / "world"), tuple(map(os.fsencode, lowers)), flavour=flavour)
    with world:
        assert world.upper is not None
        below = world.tree.lowers()
        below[0].device, below[1].device = 1, 2
        assert [world.upper.uuid_of(layer) for layer in below] == [told, told]
        below[1].device = 1
        world.upper._uuids.clear()
        assert [world.upper.uuid_of(layer) for layer in below] == [UUID, UUID]


def test_other_filesystems_are_no_btrfs() -> None:
    fd = os.open("/proc", os.O_RDONLY)
    try:
        assert not is_btrfs(fd)
    finally:
        os.close(fd)
