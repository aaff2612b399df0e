"""What the extension asks of plain functions: what they return, and when they say it is done."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.worlds import ROOT, World, run
from unionfs.fuse.direct import Direct


class Hooks:
    """The extension's part: keeps the functions, and what they told before they returned."""

    def __init__(self) -> None:
        self.functions: dict[str, Any] = {}
        self.told: list[object] = []

    def serve_directly(self, *functions: Any) -> None:
        names = ("forget", "unlink", "rmdir", "rename", "create")
        self.functions = dict(zip(names, functions, strict=True))

    def tell_removed(self, removed: Any) -> None:
        self.functions["removed"] = removed

    def removed_in_a_row(self, node: int) -> int:
        return 0

    def tell_done(self) -> None:
        self.told.append("done")

    def tell_created(self, ino: int, generation: int, fd: int) -> None:
        assert os.fstat(fd).st_size == 0
        self.told.append(ino)


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Hooks:
    found = Hooks()
    monkeypatch.setattr("unionfs.fuse.direct.native", SimpleNamespace(hooks=found))
    monkeypatch.setattr("unionfs.fuse.removing.native", SimpleNamespace(hooks=found))
    return found


@pytest.fixture
def world(tmp_path: Any) -> Any:
    base = os.fsencode(tmp_path)
    os.makedirs(base + b"/low/d")
    for name in (b"file", b"one", b"d/in"):
        with open(base + b"/low/" + name, "wb") as file:
            file.write(name)
    os.link(base + b"/low/one", base + b"/low/other")
    return World(base + b"/upper", (base + b"/low",))


def _asked(world: Any, hooks: Hooks, name: str, *arguments: object) -> object:
    world.ops.files.by_node = name == "create"  # the world itself opens files by handles
    Direct(world.ops).serve(names=True, creates=True)
    return hooks.functions[name](*arguments)


def test_nothing_but_forget_where_the_handlers_check_permissions(world, hooks):
    Direct(world.ops).serve(names=False, creates=True)
    assert [name for name, one in hooks.functions.items() if one is not None] == ["forget"]


def test_no_new_files_where_the_inode_does_not_say_everything(world, hooks):
    Direct(world.ops).serve(names=True, creates=False)
    assert [name for name, one in hooks.functions.items() if one is None] == ["create"]


def test_it_is_told_when_the_disk_has_it_and_not_before(world, hooks, monkeypatch):
    assert _asked(world, hooks, "create", 1, b"new", 0o644, 0, 0, 0, 1) == 0
    (number,) = hooks.told
    node = world.tree.lookup(world.tree.root, b"new")
    assert node is not None
    assert (node.ino, node.nlookup) == (number, 1)
    assert _asked(world, hooks, "rename", 1, b"new", 1, b"renamed") == 0
    assert _asked(world, hooks, "unlink", 1, b"renamed") == 0
    assert hooks.told == [number, "done", "done"]
    assert _asked(world, hooks, "forget", number, 1) is None
    assert node.anchor == -1

    def fail(*arguments: object, **more: object) -> None:
        raise OSError(number, "no more")

    monkeypatch.setattr("unionfs.upper.work.share_whiteout", fail)
    run(world.ops.lookup(1, b"file", ROOT))
    number = errno.EIO
    assert _asked(world, hooks, "unlink", 1, b"file") == number
    number = errno.EDQUOT  # what gives room may be in the queue: the handler waits for that
    assert _asked(world, hooks, "unlink", 1, b"file") is None
    assert len(hooks.told) == 3
    assert world.tree.lookup(world.tree.root, b"file") is not None


def test_a_removed_directory_is_cleared_away_when_that_is_told(world, hooks, monkeypatch):
    def clear(work: int, name: bytes, inside: int) -> None:
        assert hooks.told == ["done"]
        cleared.append(os.listdir(inside))

    cleared: list[list[str]] = []
    world.unlink(b"d/in")
    monkeypatch.setattr("unionfs.upper.remove.clear_folder_away", clear)
    assert _asked(world, hooks, "rmdir", 1, b"d") == 0
    assert (hooks.told, cleared) == (["done"], [["in"]])


def test_a_new_file_whose_descriptor_cannot_be_kept_is_opened_anew(world, hooks, monkeypatch):
    """Its maker was told already; a closed descriptor's number is soon that of another file."""

    def fail(*arguments: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(world.ops.files, "_share", fail)
        _asked(world, hooks, "create", 1, b"new", 0o644, 0, 0, 0, 1)
    (number,) = hooks.told
    node = world.ops.inodes[number]
    assert node.file is None
    assert os.fstat(world.ops.files.data(node, write=True).fd).st_ino == node.identity[1]
    world.ops.files.drop(node)


def test_what_is_not_begun_is_none_and_changes_nothing(world, hooks):
    before = world.dump()
    for name in (b"file", b"one", b"d"):
        run(world.ops.lookup(1, name, ROOT))
    assert _asked(world, hooks, "unlink", 1, b"one") is None
    assert _asked(world, hooks, "rename", 1, b"file", 1, b"elsewhere") is None
    assert _asked(world, hooks, "rename", 1, b"d", 1, b"elsewhere") is None
    assert hooks.told == []
    assert world.dump() == before


@pytest.mark.parametrize(
    ("asked", "number"),
    [
        (("unlink", 1, b"absent"), errno.ENOENT),
        (("unlink", 1, b"d"), errno.EISDIR),
        (("rmdir", 1, b"file"), errno.ENOTDIR),
        (("rmdir", 1, b"d"), errno.ENOTEMPTY),
        (("rename", 1, b"absent", 1, b"x"), errno.ENOENT),
        (("rename", 1, b"file", 1, b".wh.x"), errno.EINVAL),
        (("create", 1, b"file", 0o644, 0, 0, 0, 1), errno.EEXIST),
        (("unlink", 999, b"file"), errno.ESTALE),
    ],
)
def test_an_error_is_a_number(world, hooks, asked, number):
    assert _asked(world, hooks, *asked) == number
    assert hooks.told == []


def test_what_nobody_foresaw_is_an_error_of_input_and_output(world, hooks, monkeypatch, caplog):
    monkeypatch.setattr(world.ops, "remove_name", lambda *_: 1 // 0)
    assert _asked(world, hooks, "unlink", 1, b"file") == errno.EIO
    assert "unforeseen error in _unlink" in caplog.text
