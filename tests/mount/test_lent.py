"""Directories of one layer, of which the extension tells without Python (_lent.c)."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from tests.support import kernel, trees
from tests.support.extension import by_python, stats
from tests.support.files import ino, opened, read, refused, write
from tests.support.indexes import mistake, write_index
from tests.support.kept import keep_owners
from tests.support.kernel import forget
from tests.support.spawner import ASKED
from tests.support.stacks import (
    IN_NAMESPACE,
    Dir,
    Fifo,
    File,
    Layers,
    Link,
    Symlink,
    Whiteout,
    build_stack,
)
from tests.support.watching import watch
from unionfs.options import MountConfig

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_extension]

MANY = 300
ONE = b"/m/one"  # all of it is in one layer, in the middle of the stack
LAYERS = [
    [File(b"m/low", b"low"), File(b"m/one/hidden", b"not to be seen"), File(b"deep/a/b/c/d", b"d")],
    [
        Dir(b"m/one", opaque=True),
        *(File(b"m/one/f%03d" % number, b"%d " % number, 500) for number in range(MANY)),
        *(Dir(b"m/one/sub"), Dir(b"m/one/sub/below", 0o700), File(b"m/one/sub/below/x", b"x")),
        *(Symlink(b"m/one/link", b"f001"), Fifo(b"m/one/fifo"), Whiteout(b"m/one/gone")),
        *(File(b"m/one/twice", b"two names"), Link(b"m/one/again", b"m/one/twice")),
        *(File(b"m/one/prog", mode=0o755), File(b"m/one/noted", xattrs=(("user.note", b"n"),))),
    ],
    [File(b"m/high", b"high"), File(b"top", b"top")],
]
NAMES = {
    *(b"f%03d" % number for number in range(MANY)),
    *(b"sub", b"link", b"fifo", b"twice", b"again", b"prog", b"noted"),
}


KEPT = "kept"


@pytest.fixture(params=[False, True, ASKED, KEPT], ids=["layers", "index", "asked", KEPT])
def union(union: Callable, request: pytest.FixtureRequest) -> partial:
    """Mount layers; without and with a merged index of them, also one that knows no attributes.

    And with one of layers that keep owners in attributes.
    """

    def mount(layers: Layers, **how: Any) -> Any:
        keep_owners(layers)
        return union(layers, **how)

    if request.param == KEPT:
        return partial(mount, indexed=True)
    return partial(union, indexed=request.param)


@pytest.fixture
def layers(scratch: bytes) -> Layers:
    return build_stack(scratch + b"/s", LAYERS)


def statistics(root: bytes) -> dict:
    """Return what the mount says of itself, of which no error was unforeseen."""
    found = stats(root)
    assert found["unforeseen_errors"] == 0
    return found


FEW = 20  # nodes


def walk(root: bytes) -> trees.Tree:
    found = trees.snapshot(root)
    assert not found.faults
    return found


def is_forgotten(root: bytes) -> bool:
    """Return whether the kernel forgets what nobody uses; it does not do all of it each time."""
    for _ in range(100):
        forget()
        if statistics(root)["nodes"] < FEW:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.default_mode
def test_a_walk_through_it_needs_no_python(union: Callable, layers: Layers) -> None:
    root = union(layers).root
    os.listdir(root)  # the first question of each kind is Python's: whether to ask
    read(root + b"/top")
    os.lstat(root + ONE)

    def work() -> None:
        assert set(os.listdir(root + ONE)) == NAMES
        for number in range(2, MANY):
            os.lstat(root + ONE + b"/f%03d" % number)
            assert not os.path.lexists(root + ONE + b"/no%03d" % number)
            assert read(root + ONE + b"/f%03d" % number)[:4] == (b"%d " % number * 4)[:4]
        assert os.readlink(root + ONE + b"/link") == b"f001"
        assert os.listdir(root + ONE + b"/sub/below") == [b"x"]

    assert by_python(root, work) == 0


@pytest.mark.default_mode
def test_an_index_tells_of_what_several_layers_have(union: partial, layers: Layers) -> None:
    root = union(layers).root
    os.lstat(root + b"/m")
    os.listdir(root)  # as above: whether to ask

    def work() -> None:
        assert set(os.listdir(root + b"/m")) == {b"low", b"one", b"high"}
        for name in (b"low", b"high", b"one"):
            os.lstat(root + b"/m/" + name)
        assert not os.path.lexists(root + b"/m/no")
        assert os.lstat(root + b"/m/low").st_size == 10

    assert (by_python(root, work) == 0) == bool(union.keywords["indexed"])


@pytest.mark.parametrize("union", [True], indirect=True)
def test_a_damaged_index_tells_of_no_other_file(union: partial, layers: Layers) -> None:
    """What the columns of an entry say does not fit together: it is left to Python."""
    index = os.path.dirname(layers.lowers[0]) + b"/index"
    write_index(MountConfig(layers.lowers, userxattr=IN_NAMESPACE), index)
    mistake(index, ONE, b"sub")
    root = union(layers, indexed=os.fsdecode(index)).root
    os.lstat(root + ONE + b"/f001")  # a listing has attributes then
    os.listdir(root + ONE)
    found: dict[int, bytes] = {}
    for name in sorted(NAMES - {b"twice", b"again"}):
        with suppress(OSError):
            assert found.setdefault(ino(root + ONE + b"/" + name), name) == name


def test_it_can_be_turned_off(union: Callable, layers: Layers) -> None:
    root = union(layers, options=[b"lend=off"]).root
    assert by_python(root, lambda: os.listdir(root + ONE)) > 0
    modes = {one["mode"]: (one["is"], one["because"]) for one in statistics(root)["modes"]}
    assert modes["unchanged directories"] == ("answered by Python", "lend=off")


OTHER_OPTIONS = ([], [b"static_nlink"], [b"noacl"], [b"noxattrs"], [b"atime"], [b"squash_to_uid=7"])


@pytest.mark.parametrize("options", OTHER_OPTIONS)
def test_as_without_it(union: Callable, layers: Layers, options: list[bytes]) -> None:
    """Also when all of it has been taken back."""
    plain = union(layers.read_only(), options=[b"lend=off", *options]).root
    lent = union(layers.read_only(), options=options).root
    expected = walk(plain)
    trees.assert_same(expected, walk(lent), ("lend=off", "lent"), fields=[*trees.FIELDS, "ino"])
    for path in (*expected.nodes, b"m/one/none"):
        if IN_NAMESPACE or b"noxattrs" in options:
            continue  # a file's layer is what Python says
        assert _layer(lent, path) == _layer(plain, path)
    trees.assert_same(expected, walk(lent), ("lend=off", "loaded"), fields=[*trees.FIELDS, "ino"])


def _layer(root: bytes, path: bytes) -> bytes | int:
    try:
        return os.getxattr(root + b"/" + path, "user.unionfs.layer", follow_symlinks=False)
    except OSError as error:
        return error.errno or 0


def _make(root: bytes) -> None:
    write(root + ONE + b"/f500", b"new")


def _remove(root: bytes) -> None:
    os.unlink(root + ONE + b"/f299")
    write(root + ONE + b"/f500", b"new")


def _chmod(root: bytes) -> None:
    os.chmod(root + ONE, 0o711)


def _load(root: bytes) -> None:
    os.setxattr(root + ONE + b"/f000", "user.a", b"b")


def _move_away(root: bytes) -> None:
    os.rename(root + ONE + b"/f000", root + b"/elsewhere")


CHANGES = [_make, _remove, _chmod, _load, _move_away]


@pytest.mark.parametrize("change", CHANGES)
def test_who_is_in_the_middle_of_it_sees_every_name_once(
    union: Callable, layers: Layers, change: Callable
) -> None:
    """The reader's positions are the extension's, and then Python's."""
    root = union(layers).root
    with opened(root + ONE, os.O_RDONLY | os.O_DIRECTORY) as fd:
        seen = [entry.name for entry in kernel.getdents_once(fd, 1000)]
        change(root)
        while found := kernel.getdents_once(fd, 1000):
            seen += [entry.name for entry in found]
    assert len(seen) == len(set(seen))
    staying = NAMES - {b"f000", b"f299"}
    assert staying <= set(seen) <= NAMES | {b".", b"..", b"f500"}
    statistics(root)


@pytest.mark.parametrize("change", CHANGES)
def test_numbers_stay(union: Callable, again: Callable, layers: Layers, change: Callable) -> None:
    """The extension's are Python's, before and after, for who holds a file and who asks again."""
    mounted = union(layers)
    root = mounted.root
    path = root + ONE
    listed = {entry.name: entry.inode() for entry in os.scandir(path)}
    with opened(path + b"/f001", os.O_RDONLY) as fd, opened(path + b"/sub", os.O_PATH) as sub:
        before = {name: ino(path + b"/" + name) for name in NAMES}
        change(root)
        assert os.fstat(fd).st_ino == before[b"f001"]
        assert os.stat(b"below/x", dir_fd=sub).st_ino == ino(path + b"/sub/below/x")
        assert os.read(fd, 2) == b"1 "
    assert listed == before
    now = {name: ino(path + b"/" + name) for name in NAMES & set(os.listdir(path))}
    assert now.items() <= before.items()
    assert len(now) >= len(NAMES) - 1
    mounted.unmount()
    root = again(layers).root
    assert {name: ino(root + ONE + b"/" + name) for name in now} == now


def test_a_moved_one_has_another_parent(union: Callable, layers: Layers) -> None:
    root = union(layers).root
    os.lstat(root + ONE + b"/sub")
    os.rename(root + ONE, root + b"/moved")
    os.rename(root + b"/moved/sub", root + b"/deep/sub")
    for path, above in ((b"/moved", root), (b"/deep/sub", root + b"/deep")):
        with opened(root + path, os.O_RDONLY | os.O_DIRECTORY) as fd:
            parents = [entry.ino for entry in kernel.getdents(fd) if entry.name == b".."]
        assert parents == [ino(above)]
    assert read(root + b"/deep/sub/below/x") == b"x" * 10
    assert set(os.listdir(root + b"/moved")) == NAMES - {b"sub"}
    statistics(root)


def test_nothing_is_left_of_what_is_forgotten(union: Callable, layers: Layers) -> None:
    root = union(layers).root
    for _ in range(3):
        walk(root)
        assert is_forgotten(root)


def test_one_is_watched_whose_directories_are_forgotten(union: Callable, layers: Layers) -> None:
    """What Python does not know, and whose directories nobody knows any more, is found."""
    root = union(layers).root
    paths = (b"/deep/a/b/c/d", ONE + b"/f007", ONE + b"/sub/below/x")
    with watch() as watched:
        for path in paths:
            watched.add(root + path, path)
        numbers = {path: ino(root + path) for path in paths[:2]}
        forget()
        for path, number in numbers.items():
            os.chmod(root + path, 0o640)
            assert ino(root + path) == number
        os.rename(root + ONE + b"/sub", root + b"/sub")
        write(root + b"/sub/below/x", b"changed")
        happened = {label for label, _, what in watched.events() if what in ("MODIFY", "ATTRIB")}
    assert read(root + b"/sub/below/x") == b"changed"
    assert happened == set(paths)
    statistics(root)


def test_all_goes_and_comes_back(union: Callable, layers: Layers) -> None:
    """Changes and forgetting in turns, of what the extension knows and Python does not."""
    root = union(layers).root
    for number in range(10):
        walk(root)
        os.chmod(root + ONE + b"/f%03d" % number, 0o600)
        forget()
        os.listdir(root + ONE + b"/sub")
        os.mkdir(root + ONE + b"/sub/new%d" % number)
        forget()
    assert len(os.listdir(root + ONE + b"/sub")) == 11
    statistics(root)


def test_who_is_killed_keeps_nothing(union: Callable, layers: Layers) -> None:
    """Callers that end in the middle of their requests have no references."""
    root = union(layers).root
    for _ in range(10):
        walkers = [
            subprocess.Popen(["find", root + path, "-ls"], stdout=subprocess.DEVNULL)
            for path in (b"", ONE, b"/deep")
        ]
        for walker in walkers:
            walker.kill()
            walker.wait()
    assert is_forgotten(root)


MARKED = [
    [File(b"far/moved/a", b"behind a redirect")],
    [
        *(Dir(b"alone/x"), File(b"alone/x/stays")),
        *(Whiteout(b"alone/x/gone", attribute=True), Whiteout(b"alone/gone")),
        *(File(b"alone/.wh.beside", size=0), File(b"alone/beside")),
    ],
]


def test_marks_in_it_are_heeded(union: Callable, scratch: bytes) -> None:
    """Redirects, whiteouts of both kinds and AUFS's marks in what one layer has."""
    layers = build_stack(scratch + b"/m", MARKED)
    first = union(layers)
    os.mkdir(first.root + b"/holder")
    os.rename(first.root + b"/far/moved", first.root + b"/holder/in")
    first.unmount()
    os.mkdir(scratch + b"/next")
    root = union(layers.next_generation(scratch + b"/next")).root
    assert os.listdir(root + b"/holder") == [b"in"]
    assert read(root + b"/holder/in/a")[:8] == b"behind a"
    assert os.listdir(root + b"/holder/in") == [b"a"]
    assert sorted(os.listdir(root + b"/alone")) == [b"beside", b"x"]
    assert os.listdir(root + b"/alone/x") == [b"stays"]
    for name in (b"/alone/gone", b"/alone/x/gone", b"/alone/.wh.beside"):
        with refused(errno.ENOENT):
            os.lstat(root + name)
    statistics(root)


@pytest.mark.parametrize("first", [b"/p/d", b"/q/b"])
def test_one_file_at_two_places_is_two(union: Callable, scratch: bytes, first: bytes) -> None:
    """Something of a layer is mounted inside it once more; whichever is looked at first."""
    layers = build_stack(scratch + b"/m", [[File(b"p/d/f", b"one"), Dir(b"q/b")]], writable=True)
    (lower,) = layers.lowers
    with bound(lower + b"/p/d", lower + b"/q/b"):
        root = union(layers).root
        for path in (first, b"/p/d", b"/q/b"):
            assert os.listdir(root + path) == [b"f"]
            assert read(root + path + b"/f") == b"oneoneoneo"
        assert ino(root + b"/p/d/f") != ino(root + b"/q/b/f")
        write(root + b"/q/b/f", b"changed")
        assert read(root + b"/p/d/f") == b"oneoneoneo"
        os.unlink(root + b"/p/d/f")
        assert read(root + b"/q/b/f") == b"changed"
        statistics(root)


@contextmanager
def bound(what: bytes, where: bytes) -> Iterator[None]:
    subprocess.run(["mount", "--bind", what, where], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", where], check=True)


def test_layers_in_one_another_are_two(union: Callable, scratch: bytes) -> None:
    layers = build_stack(scratch + b"/m", [[File(b"in/d/f", b"one"), Dir(b"e")]])
    (lower,) = layers.lowers
    nested = replace(layers, lowers=(lower + b"/in", lower))
    root = union(nested).root
    for _ in range(2):
        assert read(root + b"/d/f") == read(root + b"/in/d/f") == b"oneoneoneo"
        assert ino(root + b"/d/f") != ino(root + b"/in/d/f")
        forget_here()
    write(root + b"/in/d/f", b"changed")
    assert read(root + b"/d/f") == b"oneoneoneo"
    statistics(root)


def forget_here() -> None:
    """Let the kernel forget what it can, if it lets us."""
    if not IN_NAMESPACE:
        forget()
