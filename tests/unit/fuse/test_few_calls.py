"""How many calls of the kernel a request costs that a program makes thousands of times."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.faults import Faults
from tests.support.worlds import ROOT, World
from tests.unit.fuse.conftest import Build

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("inline")]


@pytest.fixture
def world(lower: Path, build: Build) -> World:
    """Directories with copies in the upper, where every file might be one."""
    for name in ("one", "other"):
        (lower / name).mkdir()
        (lower / name / "copied").write_bytes(b"x")
    world = build()
    for path in (b"one/copied", b"other/copied"):
        world.write(path, b"X")
    return world


def test_a_new_file_is_not_searched_for_marks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults(monkeypatch)
    one, other = world.lookup(b"one"), world.lookup(b"other")

    def calls(handler: str, *args: object) -> list[str]:
        faults.start()
        with faults.armed():
            world.do(handler, *args, ROOT)
        # Whether a layer below has the name is asked a few times, and then known.
        return [place.split()[0] for place in faults.places if " probe " not in place]

    assert calls("create", one, b"new", 0o644, os.O_RDWR) == ["open", "stat"]
    assert calls("rename", one, b"new", other, b"new", 0) == ["rename"]
    assert calls("unlink", other, b"new") == ["open", "unlink", "stat"]
    assert calls("mkdir", one, b"dir", 0o755) == ["mkdir", "stat"]


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
