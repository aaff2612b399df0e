"""The merged index of layers that keep owners in attributes: it has what is shown."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from unionfs.ondisk import override
from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.override import Override, Spelling
from unionfs.syscalls.idmap import IdMap
from unionfs.union import merged as merged_module
from unionfs.union import stack as stack_module
from unionfs.union.layer import FdPool, Layer
from unionfs.union.merged import MergedIndex, write
from unionfs.union.override import OverrideTree
from unionfs.union.stack import find_overrides, tree_of
from unionfs.union.tree import Tree

SHOWN = {
    "f": Override(7, 8, 0o4755, stat.S_IFREG),
    "d": Override(70_000, 0, 0o1700, stat.S_IFDIR),
    "d/null": Override(0, 9, 0o666, stat.S_IFCHR, os.makedev(1, 3)),
    "link": Override(0, 0, 0o777, stat.S_IFLNK),
}
_FEW = IdMap((range(70_001),), (range(10),))  # which are all that there are


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    layer = tmp_path / "layer"
    (layer / "d").mkdir(parents=True)
    for name in ("f", "d/null", "link"):
        (layer / name).write_text("to")
    for name, shown in ({".": Override(0, 0, 0o755)} | SHOWN).items():
        override.write(os.fsencode(layer / name), Spelling.CONTAINERS, shown)
    return layer


@pytest.fixture
def trees(lower: Path) -> Iterator[list[Tree]]:
    """What ``opened`` opens; it is closed in the end."""
    found: list[Tree] = []
    yield found
    for tree in found:
        tree.close()


def opened(trees: list[Tree], lower: Path) -> Tree:
    pool = FdPool(256)
    layers = [Layer(os.fsencode(lower), 1, Flavour.USER, pool, plain=True)]
    find_overrides(layers)
    trees.append(tree_of(layers, pool))
    return trees[-1]


def made(trees: list[Tree], lower: Path) -> bytes:
    path = os.fspath(lower) + ".index"
    write(path, opened(trees, lower))
    return os.fsencode(path)


def look(tree: Tree) -> dict[str, tuple[int, int, int, int]]:
    found = {}
    pending = [tree.root]
    while pending:
        for child in tree.load(pending.pop()).values():
            st = tree.stat(child)
            path = os.fsdecode(child.path()).lstrip("/")
            found[path] = (st.st_mode, st.st_uid, st.st_gid, st.st_rdev)
            pending += [child] if child.is_dir else []
    return found


EXPECTED = {name: (o.kind | o.mode, o.uid, o.gid, o.device) for name, o in SHOWN.items()}


def elsewhere(monkeypatch: pytest.MonkeyPatch, ids: IdMap | None) -> None:
    """From now on be in another user namespace, which has names for *ids*."""
    monkeypatch.setattr(merged_module, "in_initial_user_namespace", lambda: False)
    for module in (merged_module, stack_module):
        monkeypatch.setattr(module, "own_ids", lambda: ids)


@pytest.mark.parametrize("ids", [None, _FEW], ids=["all", "few"])
def test_it_has_what_is_shown(
    trees: list[Tree], lower: Path, monkeypatch: pytest.MonkeyPatch, ids: IdMap | None
) -> None:
    index = made(trees, lower)
    elsewhere(monkeypatch, ids)
    tree = opened(trees, lower)
    assert look(tree) == EXPECTED
    monkeypatch.setattr(override, "read", lambda *_: pytest.fail("a file was asked"))
    tree = opened(trees, lower)
    tree.merged = MergedIndex.open(index, tree.lowers())
    assert isinstance(tree, OverrideTree) and look(tree) == EXPECTED


@pytest.mark.parametrize(
    "ids",
    [
        IdMap((range(70_000),), _FEW.groups),
        IdMap(_FEW.users, (range(9),)),
        IdMap((range(7), range(8, 70_001)), _FEW.groups),
    ],
    ids=["a user", "a group", "a hole"],
)
def test_files_are_asked_where_one_has_no_name(
    trees: list[Tree], lower: Path, monkeypatch: pytest.MonkeyPatch, ids: IdMap
) -> None:
    """Its owner is shown as root there, in the whole mount; that is not what is written down."""
    index = made(trees, lower)
    elsewhere(monkeypatch, ids)
    tree, plain = opened(trees, lower), opened(trees, lower)
    tree.merged = MergedIndex.open(index, tree.lowers())
    assert tree.merged is not None and not tree.merged.has_attributes
    assert look(tree) == look(plain) != EXPECTED


def test_it_is_written_down_as_it_is_kept(
    trees: list[Tree], lower: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where some owners have no name."""
    with monkeypatch.context() as there:
        elsewhere(there, IdMap((range(1),), (range(1),)))
        index = made(trees, lower)
    tree = opened(trees, lower)
    tree.merged = MergedIndex.open(index, tree.lowers())
    assert tree.merged is not None and tree.merged.has_attributes and look(tree) == EXPECTED


def test_one_without_the_attribute_belongs_to_who_has_it_on_disk(
    trees: list[Tree], lower: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lower / "d/bare").touch()
    index = made(trees, lower)
    tree = opened(trees, lower)
    for here in (True, False):
        monkeypatch.setattr(merged_module, "in_initial_user_namespace", lambda here=here: here)
        tree.merged = MergedIndex.open(index, tree.lowers())
        assert tree.merged is not None and tree.merged.has_attributes == here
        tree.merged.close()
    tree.merged = None


@pytest.mark.parametrize("users", [b"abc", 7, "seven"])
def test_damaged_owners_are_not_believed(trees: list[Tree], lower: Path, users: object) -> None:
    index = made(trees, lower)
    with closing(sqlite3.connect(os.fsdecode(index))) as rows, rows:
        rows.execute("UPDATE about SET users = ?", (users,))
    assert MergedIndex.open(index, opened(trees, lower).lowers()) is None
