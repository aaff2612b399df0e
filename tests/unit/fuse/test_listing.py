"""Positions in directories, and numbers that are told before a file was looked at."""

from __future__ import annotations

import stat
from pathlib import Path

from tests.unit.fuse.conftest import Build
from unionfs.fuse.listing import Foresight, listing
from unionfs.fuse.numbers import Numbers
from unionfs.union.node import Node


def test_a_reader_keeps_its_place_however_often_others_list() -> None:
    """It was taken as at the end after eight changed listings, and lost the rest of the names."""
    names = [b"%d" % number for number in range(3000)]
    node = Node(None, b"", stat.S_IFDIR)
    node.children = dict.fromkeys(names, node)
    seen: list[bytes] = []
    position = 0
    while True:
        found, first = listing(node, position)
        piece = found.names[first : first + 10]
        if not piece:
            break
        seen += piece
        position = found.positions[first + len(piece) - 1]
        for number in range(20):  # by others, who list it each time
            new = b"new%d-%d" % (position, number)
            node.children[new] = node
            if len(seen) < len(names):
                listing(node, 0)
            del node.children[new]
        for name in piece[::2]:
            node.children.pop(name, None)
    assert [name for name in seen if name[:3] != b"new"] == [b".", b"..", *names]
    assert len(seen) == len(set(seen))
    now = listing(node, 0)[0]
    assert len(now.names) < 2 * len(node.children) + 1000
    assert set(node.children) <= set(now.names)


def test_who_begins_is_told_whether_the_names_changed() -> None:
    """Since somebody last began: then the kernel's cache of the listing has to go."""
    node = Node(None, b"", stat.S_IFDIR)
    node.children = dict.fromkeys([b"a", b"b"], node)
    assert not listing(node, 0)[0].changed  # nobody has seen anything else
    assert not listing(node, 0)[0].changed
    node.children[b"c"] = node
    assert not listing(node, 2)[0].changed  # in the middle: the names of the beginning
    assert listing(node, 0)[0].changed
    assert not listing(node, 0)[0].changed
    del node.children[b"a"]
    node.children[b"a"] = node  # another file
    assert listing(node, 0)[0].changed


def test_no_number_is_expected_on_a_filesystem_without_a_place(lower: Path, build: Build) -> None:
    """The numbers of its files depend on the order in which they are looked at."""
    (lower / "file").touch()
    world = build()
    inodes = world.ops.inodes
    node = inodes.tree.load(inodes.tree.root)[b"file"]
    assert inodes.expected(node) == world.lookup(b"file")
    node.ino = 0
    inodes.numbers = Numbers()
    assert inodes.expected(node) == 0


def test_a_directory_whose_files_are_looked_for_is_listed_with_attributes() -> None:
    top = Node(None, b"", stat.S_IFDIR)
    children = {b"%d" % number: Node(top, b"%d" % number, stat.S_IFREG) for number in range(20)}
    children[b"dir"] = Node(top, b"dir", stat.S_IFDIR)
    children[b"dir"].nlookup = 1
    assert Foresight().names_only(children)
    children[b"7"].nlookup = 1
    assert not Foresight().names_only(children)
    many = children | {b"n%d" % number: children[b"1"] for number in range(1000)}
    assert Foresight().names_only(many)
