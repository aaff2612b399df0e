"""What the layers below the upper show in a directory, for removals: those names need a whiteout.

Layers do not change while they are mounted, so what is found out about one directory holds for as
long as its parts are the same. The first few names are looked for in each part; then the parts are
read, once, since who removes a few names usually removes many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unionfs.union.layer import Part
from unionfs.union.merged import MergedIndex
from unionfs.union.scan import scan

_FEW = 4

Probe = Callable[[Part, bytes], int | None]
"""Returns the kind of a name in a part, 0 for a whiteout, None if it is not there."""


class Below:
    """One directory's names below the upper. One thread, between awaits."""

    __slots__ = ("_asked", "_names", "_parts")

    def __init__(self) -> None:
        self._parts: Sequence[Part] = ()
        self._asked = 0
        self._names: frozenset[bytes] | None = None

    def shows(self, parts: Sequence[Part], name: bytes, probe: Probe) -> bool:
        """Return whether *parts*, topmost first, show something called *name*. Raises OSError."""
        if self._parts != parts:
            self._parts, self._asked, self._names = list(parts), 0, None
        if self._asked < _FEW:
            self._asked += 1
            kinds = (probe(part, name) for part in parts)
            return bool(next((kind for kind in kinds if kind is not None), 0))
        if self._names is None:
            self._names = _shown(parts)
        return name in self._names

    def shows_known(self, parts: Sequence[Part], name: bytes, merged: MergedIndex) -> bool:
        """As ``shows``, of lowers that have an index."""
        if self._names is None or self._parts != parts:
            found = merged.directory(parts[0].path())
            self._parts = list(parts)
            self._names = frozenset(found.names if found is not None else ())
        return name in self._names


def _shown(parts: Sequence[Part]) -> frozenset[bytes]:
    shown: set[bytes] = set()
    hidden: set[bytes] = set()
    for part in parts:
        found = scan(part)
        shown.update(found.entries.keys() - hidden)
        hidden |= found.whiteouts
    return frozenset(shown)
