"""Directories that several layers have, told of by the extension without an index (_merging.c)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.mount.test_lent import bound, walk
from tests.support import trees
from tests.support.extension import by_python, stats
from tests.support.files import ino, opened, read, write
from tests.support.stacks import (
    IN_NAMESPACE,
    MARKS,
    Device,
    Dir,
    Fifo,
    File,
    Layers,
    Link,
    Symlink,
    Whiteout,
    build_stack,
)

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_extension]

MANY = 1500  # names; more than a table of them begins with
LAYERS = [  # the lowest first; a whiteout or another kind of file in the middle hides what is below
    [
        *(File(b"m/low"), File(b"m/all", b"1"), File(b"m/gone"), File(b"m/wh"), Symlink(b"m/link")),
        *(
            File(b"m/dir/low"),
            File(b"m/dir/deep/low", b"1"),
            File(b"m/new/old"),
            File(b"m/cut/low"),
        ),
        *(
            File(b"m/end/low"),
            File(b"m/stop/low"),
            File(b"m/was/in"),
            Dir(b"m/bare"),
            Fifo(b"m/odd"),
        ),
        *(File(b"big/n%04d" % number) for number in range(MANY)),
        *(
            File(b"m/twice"),
            Link(b"m/again", b"m/twice"),
            File(b"m/.wh..wh.plnk"),
            File(b"m/same/a"),
        ),
    ],
    [
        *(File(b"m/all", b"2", 20), Whiteout(b"m/gone"), File(b"m/.wh.wh", size=0), File(b"m/was")),
        *(File(b"m/dir/mid"), File(b"m/dir/deep/mid"), Dir(b"m/new"), Whiteout(b"m/cut")),
        *(File(b"m/end", b"no directory"), File(b"m/stop/mid"), File(b"m/.wh.stop", size=0)),
        *(File(b"m/both"), File(b"m/.wh.both", size=0), Device(b"m/null"), File(b"m/same/b")),
        *(File(b"big/n%04d" % number, b"2") for number in range(0, MANY, 7)),
        *(Whiteout(b"big/n%04d" % number) for number in range(3, MANY, 7)),
    ],
    [
        *(File(b"m/all", b"3", 30), File(b"m/dir/high", mode=0o600), Dir(b"m/dir/deep", 0o750)),
        *(File(b"m/cut/high"), File(b"m/end/high"), File(b"m/stop/high"), Dir(b"m/was")),
        *(
            File(b"top"),
            File(b"m/top"),
            Symlink(b"m/dir/link", b"low"),
            Dir(b"m/one/only/here"),
            Dir(b"m/same"),
        ),
        *(File(b"big/t%04d" % number) for number in range(MANY)),
    ],
]
NAMES = [
    *(b"all", b"again", b"bare", b"both", b"cut", b"dir", b"end", b"link", b"low", b"new", b"odd"),
    *(b"one", b"same", b"stop", b"top", b"twice", b"was"),
]
IN: dict[bytes, list[bytes]] = {
    b"dir": [b"deep", b"high", b"link", b"low", b"mid"],
    b"dir/deep": [b"low", b"mid"],
    b"new": [b"old"],
    b"cut": [b"high"],
    b"end": [b"high"],
    b"stop": [b"high", b"mid"],
    b"was": [],
    b"bare": [],
    b"one": [b"only"],
    b"same": [b"a", b"b"],
}
BIG = {
    *(b"n%04d" % number for number in range(MANY) if number % 7 != 3),
    *(b"t%04d" % number for number in range(MANY)),
}


@pytest.fixture
def layers(scratch: bytes) -> Layers:
    return build_stack(scratch + b"/s", LAYERS)


def without_python(root: bytes, work: Callable[[], object]) -> bool:
    os.listdir(root)  # the first question of each kind is Python's: whether to ask
    read(root + b"/top")
    for name in (b"/m", b"/big"):
        os.lstat(root + name)
    return by_python(root, work) == 0


@pytest.mark.default_mode
def test_a_walk_through_them_needs_no_python(union: Callable, layers: Layers) -> None:
    root = union(layers).root

    def work() -> None:
        assert sorted(os.listdir(root + b"/m")) == sorted(
            [*NAMES, *([b"null"] * (not IN_NAMESPACE))]
        )
        for name, expected in IN.items():
            assert sorted(os.listdir(root + b"/m/" + name)) == expected
        assert set(os.listdir(root + b"/big")) == BIG
        for name in (b"gone", b"wh", b".wh.wh", b"none", b"dir/none", b"cut/low", b"stop/low"):
            assert not os.path.lexists(root + b"/m/" + name)
        assert read(root + b"/m/all") == b"3" * 30
        assert os.lstat(root + b"/m/dir/deep").st_mode & 0o777 == 0o750
        assert os.lstat(root + b"/m/dir").st_nlink == 1
        assert os.lstat(root + b"/m/one").st_nlink == 3

    assert without_python(root, work)


@pytest.mark.parametrize("order", ["listed", "looked up"])
def test_as_without_it(union: Callable, layers: Layers, order: str) -> None:
    """Also when all of it has been taken back."""
    plain = union(layers.read_only(), options=[b"lend=off"]).root
    lent = union(layers).root
    expected = walk(plain)
    if order == "looked up":
        for path in expected.nodes:
            os.lstat(lent + b"/" + path)
    same = [*trees.FIELDS, "ino"]
    trees.assert_same(expected, walk(lent), ("lend=off", "lent"), fields=same)
    for path, node in expected.nodes.items():
        if node.kind == "dir":
            write(lent + b"/" + path + b"/another", b"")
            os.unlink(lent + b"/" + path + b"/another")
    found = {path: ino(lent + b"/" + path) for path in expected.nodes}
    assert found == {path: node.ino for path, node in expected.nodes.items()}
    assert sorted(walk(lent).nodes) == sorted(expected.nodes)
    assert stats(lent)["unforeseen_errors"] == 0


OPAQUE: dict[str, Callable[[bytes], object]] = {
    "the kernel's": lambda at: os.setxattr(at, f"{MARKS}.overlay.opaque", b"y"),
    "fuse-overlayfs's": lambda at: os.setxattr(at, "user.fuseoverlayfs.opaque", b"y"),
    "AUFS's": lambda at: write(at + b"/.wh..wh..opq", b""),
}


@pytest.mark.parametrize("kind", OPAQUE)
@pytest.mark.parametrize("depth", [b"", b"/m"])
def test_an_opaque_one_ends_it(union: Callable, layers: Layers, kind: str, depth: bytes) -> None:
    """In the middle of the stack; seen by who looks for it, and by who lists what is above."""
    middle = layers.lowers[1] + (depth + b"/dir" if depth else b"/m")
    OPAQUE[kind](middle)
    for listed in (False, True):
        root = union(layers.read_only()).root
        if listed:
            os.listdir(root + depth)
        if depth:
            assert sorted(os.listdir(root + b"/m/dir")) == [b"deep", b"high", b"link", b"mid"]
            assert os.listdir(root + b"/m/dir/deep") == [b"mid"]
        else:
            assert b"low" not in os.listdir(root + b"/m")
            assert not os.path.lexists(root + b"/m/bare")
        assert stats(root)["unforeseen_errors"] == 0


def test_who_is_in_the_middle_of_one_sees_every_name_once(union: Callable, layers: Layers) -> None:
    root = union(layers).root
    found = []
    with opened(root + b"/big", os.O_RDONLY | os.O_DIRECTORY) as fd, os.scandir(fd) as entries:
        for entry in entries:
            if not found:
                write(root + b"/big/t0000", b"changed")
                os.unlink(root + b"/big/n0000")
            found.append(os.fsencode(entry.name))
    assert len(found) == len(set(found))
    assert set(found) | {b"n0000"} == BIG
    assert set(os.listdir(root + b"/big")) == BIG - {b"n0000"}


def test_what_was_listed_is_loaded_as_it_is(union: Callable, layers: Layers) -> None:
    """Once read by the extension, once not: the first change in it loads a directory."""
    found = []
    for listed in (True, False):
        own = [layers.lowers[-1] + b"-%d%c" % (listed, kind) for kind in b"uw"]
        for path in own:
            os.mkdir(path)
        root = union(replace(layers, upper=own[0], work=own[1])).root
        if listed:
            walk(root)
        os.unlink(root + b"/m/all")
        os.rename(root + b"/m/dir/deep/low", root + b"/m/low")
        os.chmod(root + b"/m/again", 0o640)
        os.rmdir(root + b"/m/bare")
        os.unlink(root + b"/m/stop/mid")
        for path in (b"/m/dir/deep", b"/m/dir", b"/m/stop", b"/m", b""):
            os.utime(root + path, ns=(1, 2))
        assert sorted(os.listdir(root + b"/m/dir/deep")) == [b"mid"]
        found.append(walk(root))
    trees.assert_same(*found, ("listed", "not listed"))


def test_more_layers_than_a_set_has_room_for(union: Callable, scratch: bytes) -> None:
    deep = [
        [File(b"d/own%03d" % number), File(b"d/same", b"%d" % number), File(b"d/e/in%03d" % number)]
        for number in range(70)
    ]
    layers = build_stack(scratch + b"/d", [*deep, [File(b"few/top")], [File(b"few/next")]])
    root = union(layers).root
    assert set(os.listdir(root + b"/d")) == {b"e", b"same", *(b"own%03d" % n for n in range(70))}
    assert set(os.listdir(root + b"/d/e")) == {b"in%03d" % n for n in range(70)}
    assert read(root + b"/d/same") == b"69" * 5
    assert sorted(os.listdir(root + b"/few")) == [b"next", b"top"]


def test_something_mounted_in_a_part(union: Callable, layers: Layers) -> None:
    """It is left to Python, which shows it."""
    elsewhere = layers.lowers[-1] + b"-mounted"
    os.mkdir(elsewhere)
    write(elsewhere + b"/guest", b"here")
    for part in (layers.lowers[1] + b"/m/dir", layers.lowers[0] + b"/m/dir"):
        with bound(elsewhere, part):
            root = union(layers.read_only()).root
            assert b"guest" in os.listdir(root + b"/m/dir")
            assert read(root + b"/m/dir/guest") == b"here"
            assert stats(root)["unforeseen_errors"] == 0
