"""Directories of every origin, renamed in every way, and used afterwards.

Each case does the same on a plain directory, the kernel's overlayfs and the union and compares all
answers and trees, inode numbers included; at its end each driver mounts what the other one wrote
(``tests.support.overlay_example``).
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Sequence

import pytest

from tests.support import overlay_run, parity
from tests.support.examples import FULL
from tests.support.fixtures import COMPARED
from tests.support.kernel import RENAME_EXCHANGE, RENAME_NOREPLACE
from tests.support.ops import Op
from tests.support.stacks import Dir, Entry, File, Link, Whiteout

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, *COMPARED]

LONG = b"l" * 200 + b"/" + b"m" * 200
Layers = tuple[Sequence[Entry], Sequence[Entry], Sequence[Entry]]


def rename(old: bytes, new: bytes, flags: int = 0) -> Op:
    return Op("rename", (old, new, flags))


def mkdir(path: bytes) -> Op:
    return Op("mkdir", (path, 0o755))


def unlink(path: bytes) -> Op:
    return Op("unlink", (path,))


def rmtree(path: bytes) -> Op:
    return Op("rmtree", (path,))


def write(path: bytes) -> Op:
    return Op("write", (path, os.O_CREAT | os.O_TRUNC, 0, len(path), 3000))


def alone(name: str) -> Op:
    return Op(name, ())


# --- where the directory p/d comes from: three layers, the bottom one first, and what is done -----


def _full(path: bytes) -> list[Entry]:
    return [
        File(path + b"/f", b"lower ", 5000),
        Link(path + b"/same", path + b"/f"),
        File(path + b"/sub/g"),
        Dir(path + b"/none"),
    ]


def _merged(path: bytes) -> Layers:
    return (
        [*_full(path), File(path + b"/gone"), File(path + b"/sub/gone")],
        [Whiteout(path + b"/gone"), File(path + b"/two"), Dir(path + b"/sub", 0o700)],
        [File(path + b"/sub/top"), Whiteout(path + b"/sub/gone")],
    )


STATES: dict[str, tuple[Layers, list[Op]]] = {
    "made here": (
        ([Dir(b"p")], [], []),
        [mkdir(b"p/d"), write(b"p/d/f"), mkdir(b"p/d/sub"), write(b"p/d/sub/g")],
    ),
    "of one layer": ((_full(b"p/d"), [], []), []),
    "merged": (_merged(b"p/d"), []),
    "merged and changed": (
        _merged(b"p/d"),
        [write(b"p/d/new"), Op("chmod", (b"p/d/f", 0o600)), unlink(b"p/d/two")],
    ),
    "opaque in a layer": (
        ([File(b"p/d/hidden")], [Dir(b"p/d", opaque=True), *_full(b"p/d")], [File(b"p/d/top")]),
        [],
    ),
    "made again": (_merged(b"p/d"), [rmtree(b"p/d"), mkdir(b"p/d"), write(b"p/d/f")]),
    "emptied": (([File(b"p/d/f")], [File(b"p/d/g")], []), [unlink(b"p/d/f"), unlink(b"p/d/g")]),
    "renamed beside": (_merged(b"p/e"), [rename(b"p/e", b"p/d")]),
    "renamed from elsewhere": (_merged(b"o/e"), [mkdir(b"p"), rename(b"o/e", b"p/d")]),
    "renamed twice": (
        _merged(b"p/e"),
        [rename(b"p/e", b"r"), write(b"r/new"), rename(b"r", b"p/d")],
    ),
    "renamed a generation ago": (
        _merged(b"o/e"),
        [mkdir(b"p"), rename(b"o/e", b"p/d"), alone("generation")],
    ),
    "in a renamed one": (_merged(b"o/d"), [rename(b"o", b"p")]),
    "in a renamed one, a generation ago": (
        _merged(b"o/d"),
        [rename(b"o", b"p"), alone("generation"), write(b"p/d/new")],
    ),
    "in an opaque one": (
        ([File(b"p/d/hidden")], [Dir(b"p", opaque=True), *_full(b"p/d")], [File(b"p/d/top")]),
        [],
    ),
    "too far down for a redirect": (
        _merged(LONG + b"/d"),
        [mkdir(b"p"), rename(LONG + b"/d", b"p/d")],
    ),
}

# --- how it is renamed, and where it is then ------------------------------------------------------

OTHERS: list[Entry] = [
    Dir(b"q/inner"),
    File(b"q/low"),
    Dir(b"empty"),
    File(b"emptied/f"),
    File(b"file", b"a file", 6),
    File(b"both/low"),
    File(b"goes/x/y"),
]
MOVES: dict[str, tuple[list[Op], bytes]] = {
    "beside": ([rename(b"p/d", b"p/e")], b"p/e"),
    "elsewhere": ([rename(b"p/d", b"q/inner/e")], b"q/inner/e"),
    "elsewhere, if free": ([rename(b"p/d", b"q/d", RENAME_NOREPLACE)], b"q/d"),
    "into a new one": ([mkdir(b"u"), rename(b"p/d", b"u/d")], b"u/d"),
    "into a renamed one": ([rename(b"q", b"u"), rename(b"p/d", b"u/inner/d")], b"u/inner/d"),
    "over a new one": ([mkdir(b"p/e"), rename(b"p/d", b"p/e")], b"p/e"),
    "over an empty one": ([rename(b"p/d", b"empty")], b"empty"),
    "over an emptied one": ([unlink(b"emptied/f"), rename(b"p/d", b"emptied")], b"emptied"),
    "over an emptied merged one": (
        [unlink(b"both/low"), unlink(b"both/top"), rename(b"p/d", b"both")],
        b"both",
    ),
    "where a file was": ([unlink(b"file"), rename(b"p/d", b"file")], b"file"),
    "where a directory was": ([rmtree(b"goes"), rename(b"p/d", b"goes")], b"goes"),
    "over what is not empty": ([rename(b"p/d", b"q"), rename(b"p/d", b"file")], b"p/d"),
    "into itself": ([rename(b"p/d", b"p/d/e"), rename(b"p/d", b"p")], b"p/d"),
    "for a file": ([rename(b"p/d", b"file", RENAME_EXCHANGE)], b"file"),
    "for a merged one": ([rename(b"p/d", b"both", RENAME_EXCHANGE)], b"both"),
    "for a new one": ([mkdir(b"u"), rename(b"u", b"p/d", RENAME_EXCHANGE)], b"u"),
    "there and back": ([rename(b"p/d", b"q/d"), rename(b"q/d", b"p/d")], b"p/d"),
    "after its parent": ([rename(b"p", b"q/p"), rename(b"q/p/d", b"d")], b"d"),
}


def _used(place: bytes) -> list[Op]:
    """Change what is in *place*, move some of it out and something in."""
    return [
        write(place + b"/f"),
        unlink(place + b"/sub/g"),
        mkdir(place + b"/k"),
        rename(place + b"/sub", b"taken-out"),
        rename(b"q", place + b"/taken-in"),
        Op("rmdir", (place + b"/none",)),
    ]


def afterwards(place: bytes) -> dict[str, list[Op]]:
    """Return what is done next, with the directory at *place*."""
    generation = alone("generation")
    return {
        "nothing": [],
        "used": _used(place),
        "remounted and used": [alone("remount"), alone("compare"), *_used(place)],
        "its name made again": [mkdir(b"p"), mkdir(b"p/d"), write(b"p/d/f"), alone("compare")],
        "removed": [rmtree(place), alone("compare"), mkdir(place), write(place + b"/f")],
        "swapped and renamed back": [alone("swap"), rename(place, b"p/d2"), *_used(b"p/d2")],
        "generations": [
            generation,
            rename(place, b"again"),
            generation,
            rename(b"again/sub", b"p2"),
            mkdir(b"again/sub"),
            generation,
            *_used(b"again"),
        ],
    }


_number = itertools.count()


def _run(arena: bytes, mount_union, layers: Layers, ops: Sequence[Op]) -> None:
    bottom, middle, top = layers
    stack = [[*bottom, *OTHERS], middle, [*top, File(b"both/top")]]
    folder = arena + b"/renames%d" % next(_number)
    overlay_run.run(folder, stack, [*ops, alone("compare")], mount_union, parity.load())


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("state", STATES)
def test_renamed(arena, mount_union, state):
    """Each state in half of the ways, of what is done afterwards one each; in the full run all."""
    layers, before = STATES[state]
    start = list(STATES).index(state)
    for position, (move, place) in enumerate(MOVES.values()):
        choices = list(afterwards(place).values())
        chosen = choices if FULL else [choices[(start + position) % len(choices)]]
        if not FULL and (start + position) % 2:
            continue
        for after in chosen:
            _run(arena, mount_union, layers, [*before, *move, *after])


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("one", STATES)
def test_exchanged_with_each_other(arena, mount_union, one):
    """Two directories of any origin change places, and then one of them changes back."""
    partners = list(STATES)[list(STATES).index(one) :]
    for other in partners if FULL else partners[:: max(len(partners) // 3, 1)]:
        layers, first = STATES[one]
        beside, second = _elsewhere(*STATES[other])
        both = tuple([*low, *more] for low, more in zip(layers, beside, strict=True))
        _run(
            arena,
            mount_union,
            both,  # type: ignore[arg-type]
            [
                *first,
                *second,
                rename(b"p/d", b"v/p/d", RENAME_EXCHANGE),
                *_used(b"v/p/d"),
                alone("swap"),
                rename(b"v/p/d", b"p/d", RENAME_EXCHANGE),
                write(b"p/d/f"),
            ],
        )


def _elsewhere(layers: Layers, ops: Sequence[Op]) -> tuple[list[list[Entry]], list[Op]]:
    """Return the state that *layers* and *ops* make, but below ``v``."""
    moved = [[_below_v(entry) for entry in layer] for layer in layers]
    paths = [
        op._replace(args=tuple(b"v/" + arg if isinstance(arg, bytes) else arg for arg in op.args))
        for op in ops
    ]
    return moved, [mkdir(b"v"), *paths]


def _below_v(entry: Entry) -> Entry:
    if isinstance(entry, Link):
        return Link(b"v/" + entry.path, b"v/" + entry.target)
    return dataclasses.replace(entry, path=b"v/" + entry.path)
