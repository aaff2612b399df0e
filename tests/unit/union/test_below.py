"""What is remembered of the layers below the upper is what looking again would say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.stacks import Dir, File, Whiteout, build_stack
from unionfs.ondisk.flavour import Flavour
from unionfs.union.layer import FdPool, Layer
from unionfs.union.tree import Tree

pytestmark = [pytest.mark.needs_root]

NAMES = [b"top", b"middle", b"bottom", b"gone", b"again", b"both", b"sub", b"never"]
SHOWN = {b"top", b"middle", b"bottom", b"again", b"both", b"sub"}


@pytest.fixture
def tree(tmp_path: Path):
    layers = build_stack(
        os.fsencode(tmp_path / "stack"),
        [
            [File(b"d/bottom"), File(b"d/gone"), File(b"d/again"), File(b"d/both"), Dir(b"d/sub")],
            [File(b"d/middle"), Whiteout(b"d/gone"), Whiteout(b"d/again"), File(b"d/both")],
            [File(b"d/top"), File(b"d/again"), Whiteout(b"d/never")],
        ],
    )
    upper = tmp_path / "of-its-own"
    (upper / "d").mkdir(parents=True)
    (upper / "d" / "never").write_bytes(b"only in the upper")
    pool = FdPool(16)
    paths = [os.fsencode(upper), *layers.lowers]
    made = [Layer(path, number, Flavour.TRUSTED, pool) for number, path in enumerate(paths)]
    found = Tree(made, pool)
    yield found
    found.close()


def test_the_first_few_and_all_others_are_told_the_same(tree: Tree) -> None:
    directory = tree.lookup(tree.root, b"d")
    assert directory is not None
    tree.load(directory)
    for _ in range(3):
        assert {name for name in NAMES if tree.lower_shows(directory, name)} == SHOWN


def test_it_is_not_believed_when_the_directory_has_other_parts(tree: Tree) -> None:
    """As after a copy-up of all of it, which makes it opaque."""
    directory = tree.lookup(tree.root, b"d")
    assert directory is not None
    tree.load(directory)
    for name in NAMES:
        tree.lower_shows(directory, name)
    del directory.parts[1:2]  # the topmost lower one
    assert not tree.lower_shows(directory, b"top")
    assert not tree.lower_shows(directory, b"again")
    del directory.parts[1:]
    assert not any(tree.lower_shows(directory, name) for name in NAMES)
