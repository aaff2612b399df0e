"""Positions in directories that stay good while the directory changes.

A listing is read in pieces, each asking for what follows a position (``d_off``). With the kernel's
cache of directories there is no open handle that a snapshot could belong to, so a directory keeps
its snapshots itself: a rewind takes a new one if the names changed, with positions that follow on
the older ones', and a reader in the middle of an older one goes on in that.
"""

from __future__ import annotations

from typing import NamedTuple

from unionfs.union.node import Node

_SHARE = 4  # attributes pay when one file in so many is looked up after its directory was listed
_SAMPLE = 32  # while they are given, every so many listings go without, to see whether they pay
_MEMORY = 512  # files

_KEPT = 8  # snapshots; a reader must be overtaken by so many changed listings to lose its place


class Snapshot(NamedTuple):
    """The names of a directory at one time; the name at index *i* has position ``base + i + 1``."""

    base: int
    names: list[bytes]


def snapshot(node: Node, start: int) -> tuple[Snapshot, int]:
    """Return the snapshot of *node* (loaded) that holds what follows position *start*, and where.

    The first two names are the dots. A position of a snapshot that is not kept any more is taken
    as the end of the directory.
    """
    kept: list[Snapshot] | None = node.listing
    if start == 0 or not kept:
        return _anew(node), 0
    for each in reversed(kept):
        if start > each.base:
            return each, start - each.base
    return kept[0], len(kept[0].names)


def _anew(node: Node) -> Snapshot:
    assert node.children is not None
    names = [b".", b"..", *node.children]
    kept: list[Snapshot] = node.listing or []
    if kept:
        last = kept[-1]
        if last.names == names:
            return last
        found = Snapshot(last.base + len(last.names), names)
    else:
        found = Snapshot(0, names)
    node.listing = [*kept[1 - _KEPT :], found]
    return found


class Foresight:
    """Whether to give the attributes of files with a listing, which is a stat each.

    ``find`` wants names only; ``tar`` and ``ls -l`` want every file's attributes, and would ask for
    each. So listings begin without, lookups of listed files are counted, and when they are many,
    listings bring attributes, until a sample shows that nobody asks any more.
    """

    __slots__ = ("_listed", "_turn", "_wanted")

    def __init__(self) -> None:
        self._listed = 0
        self._wanted = 0
        self._turn = 0

    def names_only(self) -> bool:
        """Return whether the next piece of a listing should have names only."""
        self._turn += 1
        return self._wanted * _SHARE <= self._listed or self._turn % _SAMPLE == 0

    def listed(self, count: int) -> None:
        """Note that *count* files were listed by name only."""
        self._listed += count
        if self._listed > _MEMORY:
            self._listed //= 2
            self._wanted //= 2

    def wanted(self) -> None:
        """Note that a file that was listed by name only is looked up."""
        self._wanted += 1
