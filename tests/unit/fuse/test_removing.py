"""Which names the extension is told to remove by itself, and what is known when it has."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.worlds import ROOT, World, run
from unionfs.fuse.removing import Removing


class Hooks:
    """The extension's part: how many names went in a row, and what it was told then."""

    def __init__(self) -> None:
        self.in_a_row = 2
        self.said: list[tuple[int, bytes, list[bytes]]] = []

    def tell_removed(self, removed: Any) -> None:
        self.removed = removed

    def removed_in_a_row(self, node: int) -> int:
        return self.in_a_row

    def share_removable(
        self, node: int, fd: int, whiteout: bytes, names: bytes, count: int
    ) -> None:
        listed = names.split(b"\0") if names else []
        assert len(listed) == count
        assert os.stat(whiteout, dir_fd=fd, follow_symlinks=False).st_rdev == 0
        self.said.append((node, whiteout, listed))


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Hooks:
    found = Hooks()
    monkeypatch.setattr("unionfs.fuse.removing.native", SimpleNamespace(hooks=found))
    return found


@pytest.fixture
def world(tmp_path: Any) -> Any:
    base = os.fsencode(tmp_path)
    os.makedirs(base + b"/low/d/dir")
    for name in (b"one", b"plain", b"gone", b"more", b"kept", b"never", b"copied"):
        with open(base + b"/low/d/" + name, "wb") as file:
            file.write(
                b"" if name == b"copied" else name
            )  # with nothing to copy it is done at once
    os.link(base + b"/low/d/one", base + b"/low/d/other")
    with World(base + b"/upper", (base + b"/low",)) as made:
        yield made


@pytest.fixture
def folder(world: Any) -> Any:
    """The directory, whose files were looked at but one; two names of it are gone."""
    folder = world.node(b"d")
    for name in (b"one", b"other", b"plain", b"gone", b"more", b"kept", b"copied"):
        node = world.ops.inodes[run(world.ops.lookup(folder.ino, name, ROOT)).st_ino]
        node.protection = -1 if name == b"plain" else 0
    folder.children[b"never"].protection = 0
    folder.children[b"kept"].protection = 0x10
    world.setattr(b"d/copied", mode=0o600)
    world.create(b"d/new")
    world.unlink(b"d/gone")
    world.unlink(b"d/more")
    return folder


def test_what_needs_a_whiteout_and_nothing_else(world, hooks, folder):
    removing = Removing(world.ops, world.upper)
    removing.went(folder.ino)
    assert [names for _, _, names in hooks.said] == [[b"plain"]]


def test_not_what_cannot_be_looked_at(world, hooks, folder, monkeypatch):
    def fail(*arguments: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("unionfs.union.protection.flags.protecting", fail)
    Removing(world.ops, world.upper).went(folder.ino)
    assert [names for _, _, names in hooks.said] == [[]]


@pytest.mark.parametrize(("in_a_row", "files", "says"), [(1, 0, 0), (2, 60, 0), (3, 60, 1)])
def test_not_before_it_pays(world, hooks, folder, in_a_row, files, says):
    for number in range(files):
        world.create(b"d/new%d" % number)
    hooks.in_a_row = in_a_row
    Removing(world.ops, world.upper).went(folder.ino)
    assert len(hooks.said) == says


@pytest.mark.parametrize("whiteout", ["none", "file"])
def test_not_where_a_link_does_not_do(world, hooks, folder, whiteout):
    if whiteout == "none":
        world.work._whiteout = b""
    else:
        world.work.as_files = True
    Removing(world.ops, world.upper).went(folder.ino)
    assert hooks.said == []


def test_not_in_a_directory_that_is_protected(world, hooks, folder):
    folder.protection = 0x20
    Removing(world.ops, world.upper).went(folder.ino)
    assert hooks.said == []


def test_what_went_is_dead_and_the_rest_goes_on(world, hooks, folder, caplog):
    """One name that nobody knows costs the account of no other."""
    removing = Removing(world.ops, world.upper)
    removing.begin()
    plain, one = folder.children[b"plain"], folder.children[b"kept"]
    folder.attr = object()
    hooks.removed(folder.ino, b"plain\0unknown\0kept")
    assert plain.dead
    assert one.dead
    assert folder.attr is None
    assert not {b"plain", b"kept"} & folder.children.keys()
    assert "unforeseen error in unlink" in caplog.text
    hooks.removed(12345, b"plain")  # a directory that nobody knows
