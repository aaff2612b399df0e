"""How many calls of the kernel a request costs that a program makes thousands of times."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyfuse3
import pytest

from tests.support.faults import Faults
from tests.support.worlds import ROOT, World
from tests.unit.fuse.conftest import Build
from unionfs.ondisk.whiteout import is_whiteout

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("inline")]


@pytest.fixture
def world(lower: Path, build: Build) -> World:
    """Directories with copies in the upper, where every file might be one."""
    for name in ("one", "other"):
        (lower / name).mkdir()
        (lower / name / "copied").write_bytes(b"x")
    (lower / "full").write_bytes(b"x" * 5000)
    with (lower / "holes").open("wb") as file:
        file.truncate(100_000)
    world = build()
    for path in (b"one/copied", b"other/copied"):
        world.write(path, b"X")
    return world


@pytest.fixture
def calls(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Run a handler and return the names of the calls that it made."""
    faults = Faults(monkeypatch)

    def calls(handler: str, *args: object) -> list[str]:
        faults.start()
        with faults.armed():
            world.do(handler, *args, ROOT)
        # Whether a layer below has the name is asked a few times, and then known.
        return [place.split()[0] for place in faults.places if " probe " not in place]

    return calls


def test_a_new_file_is_not_searched_for_marks(
    world: World, calls: Callable[..., list[str]]
) -> None:
    one, other = world.lookup(b"one"), world.lookup(b"other")
    assert calls("create", one, b"new", 0o644, os.O_RDWR) == ["open", "stat"]
    assert calls("rename", one, b"new", other, b"new", 0) == ["rename"]
    assert calls("unlink", other, b"new") == ["dup", "unlink"]
    assert calls("mkdir", one, b"dir", 0o755) == ["mkdir", "stat"]


@pytest.mark.parametrize("held", [True, False])
def test_the_whiteouts_of_a_removed_directory_go(
    world: World, calls: Callable[..., list[str]], held: bool
) -> None:
    world.unlink(b"one/copied")
    upper, node = world.tree.layers[0].root, world.ops.inodes[world.lookup(b"one")]
    if not held:
        node.parts[0].drop()
    made = calls("rmdir", pyfuse3.ROOT_INODE, b"one")
    if held:
        assert made[-6:] == ["link", "_renameat2", "lseek", "listdir", "unlink", "rmdir"]
    assert world.upper is not None and is_whiteout(os.stat(b"one", dir_fd=upper.fd()))
    left = world.upper.work.fd
    assert all(is_whiteout(os.stat(name, dir_fd=left)) for name in os.listdir(left))


def test_a_copied_file_is_searched_for_holes_where_it_may_have_some(
    world: World, calls: Callable[..., list[str]]
) -> None:
    found = {}
    for name in (b"full", b"holes"):
        ino = world.lookup(name)
        found[name] = calls("open", ino, os.O_WRONLY)
    assert "lseek" not in found[b"full"] and "lseek" in found[b"holes"]
    copies = {name: os.stat(world.upperdir + b"/" + name) for name in found}
    assert copies[b"full"].st_size == 5000
    assert copies[b"holes"].st_size == 100_000 and copies[b"holes"].st_blocks <= 8


def test_a_file_that_moves_makes_nobody_look_at_all_open_files(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a directory takes files along that others have open: there may be a thousand."""
    looked: list[bytes] = []
    monkeypatch.setattr(world.ops.files, "catch_up", lambda: looked.append(b"all"))
    world.create(b"one/new")
    world.rename(b"one/new", b"other/new")
    assert looked == []
    world.rename(b"one", b"moved")
    assert looked == [b"all"]
