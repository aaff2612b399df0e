"""Positions in directories that stay good while the directory changes.

A listing is read in pieces, each asking for what follows a position (``d_off``). With the kernel's
cache of directories there is no open handle that a snapshot could belong to, so a directory keeps
its positions itself: a name has the same for as long as it is there, and new names follow. However
often the directory changes and is listed anew meanwhile, a reader in the middle of it finds every
name that stays, once.
"""

from __future__ import annotations

import stat
from array import array
from bisect import bisect_right

from unionfs.fuse import native
from unionfs.union.node import Node

_SHARE = 4  # attributes pay when one file in so many is looked up after its directory was listed
_SAMPLE = 32  # while they are given, every so many listings go without, to see whether they pay
_MEMORY = 512  # files
_SMALL = 512  # entries; the attributes of more take milliseconds

_DOTS = [b".", b".."]
_GONE = 256  # names that are not there any more; as many again as are there are kept, too


class Listing:
    """The names of a directory, the two dots first, by rising position.

    Some may be gone: a reader skips them. ``changed`` says whether the names were others when a
    reader last began, or have been meanwhile: a reader in the middle may have seen those.
    """

    __slots__ = ("_last", "_touched", "changed", "names", "positions")

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.positions = array("Q")
        self.changed = False
        self._last: list[bytes] = []
        self._touched = False

    @classmethod
    def begun(cls, names: list[bytes]) -> Listing:
        """Return one of *names*, without the dots, that readers have positions in already."""
        made = cls()
        made.names = [*_DOTS, *names]
        made.positions = array("Q", range(1, len(made.names) + 1))
        made._last = made.names
        return made

    def touch(self) -> None:
        """Note that names are about to change, perhaps to what they were before."""
        self._touched = True

    def refresh(self, now: list[bytes]) -> None:
        """Take in the names *now*, those that are new at the end."""
        self.changed = bool(self._last) and (self._touched or now != self._last)
        self._touched = False
        if now == self._last:
            return
        self._last = now
        known = set(self.names)
        new = [name for name in now if name not in known]
        if len(self.names) + len(new) > 2 * len(now) + _GONE:
            self._forget_all_but(set(now))
        start = self.positions[-1] + 1 if self.positions else 1
        self.names = self.names + new if self.names else now
        self.positions.extend(range(start, start + len(new)))

    def _forget_all_but(self, there: set[bytes]) -> None:
        kept = [index for index, name in enumerate(self.names) if name in there]
        self.names = [self.names[index] for index in kept]
        self.positions = array("Q", [self.positions[index] for index in kept])


def listing(node: Node, start: int) -> tuple[Listing, int]:
    """Return the listing of *node* (loaded), and the index in it of what follows position *start*.

    From the start it has all the names of this moment.
    """
    found: Listing | None = node.listing
    if found is None:
        found = node.listing = Listing()
    elif start:
        return found, bisect_right(found.positions, start)
    assert node.children is not None
    found.refresh([*_DOTS, *node.children])
    return found, 0


def _is_known_file(node: Node) -> bool:
    return node.nlookup > 0 and node.kind != stat.S_IFDIR


class Foresight:
    """Whether to give the attributes of files with a listing, which is a stat each.

    ``find`` wants names only; ``tar`` and ``ls -l`` want every file's attributes, and would ask for
    each. So listings begin without, lookups of listed files are counted, and when they are many,
    listings bring attributes, until a sample shows that nobody asks any more.

    They bring them at once where files of the directory are known by name already: who looks for
    some and then lists it, as Python does for modules, goes on to others.
    """

    __slots__ = ("_listed", "_turn", "_wanted")

    def __init__(self) -> None:
        self._listed = 0
        self._wanted = 0
        self._turn = 0

    def names_only(self, children: dict[bytes, Node]) -> bool:
        """Return whether the next piece of a listing of *children* should have names only."""
        if len(children) <= _SMALL and any(map(_is_known_file, children.values())):
            return False
        self._turn += 1
        return self._wanted * _SHARE <= self._listed or self._turn % _SAMPLE == 0

    def listed(self, count: int) -> None:
        """Note that *count* files were listed by name only."""
        self._listed += count
        if self._listed > _MEMORY:
            self._listed //= 2
            self._wanted //= 2

    def wanted(self) -> None:
        """Note that a file that was listed by name only is looked up.

        Perhaps it was the extension that listed it, which does as this class does (``_lend.c``).
        """
        self._wanted += 1
        native.lent_wanted()
