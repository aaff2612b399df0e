"""The operations of a seed. Each is whole in itself: any part of a list can be run alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

LIMIT = 160 << 10  # bytes; more than the 128 KiB that are read at once
PAGE = 4096
_SECTOR = 512


class Op(NamedTuple):
    """*kind* is the method of ``Exerciser``; the rest is what it may want.

    ``file`` and ``who``: which file, through which of its openers; ``at`` and ``size``: bytes, to
    be cut to what the file has; ``fill``: what to write, or which variant.
    """

    kind: str
    file: int
    who: int
    at: int
    size: int
    fill: int


# How often each kind comes. What only reads leaves a lower file where it is.
READING = {
    "read": 24,
    "map_read": 12,
    "private_map": 3,
    "direct_read": 6,
    "splice": 3,
    "stat": 4,
    "seek": 3,
    "drop": 4,
    "reopen": 5,
    "unmap": 2,
}
WRITING = {
    "write": 24,
    "append": 5,
    "direct_write": 6,
    "map_write": 14,
    "truncate": 10,
    "truncate_open": 1,
    "copy_range": 4,
    "allocate": 2,
    "punch": 4,
    "zero": 2,
    "collapse": 1,
    "insert": 1,
    "sync": 2,
    "names": 3,
}
OPENERS = 5


def operations(seed: int, count: int, *, files: int, reading: int, removing: int) -> Iterator[Op]:
    """Yield the *count* operations of *seed* on *files* files.

    The first *reading* only read; operation *removing* removes the first file's names (-1: none).
    """
    rng = random.Random(seed)
    quiet, busy = _wheel(READING), _wheel({**READING, **WRITING})
    for number in range(count):
        if number == removing:
            yield Op("remove", 0, 0, 0, 0, 0)
        else:
            yield _one(rng.random, quiet if number < reading else busy, files)


def _wheel(weights: dict[str, int]) -> list[str]:
    return [kind for kind, weight in weights.items() for _ in range(weight)]


def _one(r: random.Random.random, wheel: list[str], files: int) -> Op:
    """Return one operation; places and sizes near the edges of pages come more often."""
    at = int(r() * LIMIT)
    shape = r()
    if shape < 0.25:
        at = at // PAGE * PAGE
    elif shape < 0.35:
        at = max(at // PAGE * PAGE - int(r() * 9), 0)
    size = 1 + int(r() * (64 if shape < 0.2 else PAGE if shape < 0.7 else LIMIT // 2))
    if shape > 0.9:
        size = (size // PAGE + 1) * PAGE
    return Op(
        wheel[int(r() * len(wheel))],
        int(r() * files),
        int(r() * OPENERS),
        at,
        min(size, LIMIT - at),
        int(r() * LIMIT),
    )


def sectors(at: int, size: int) -> tuple[int, int]:
    """Return *at* and *size* on multiples of what O_DIRECT takes everywhere; *size* may be 0."""
    return at // _SECTOR * _SECTOR, size // _SECTOR * _SECTOR
