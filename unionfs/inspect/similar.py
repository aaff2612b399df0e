"""Names that somebody may have meant: in another case, in another normal form, one edit away."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_AT_MOST = 8


def similar(name: bytes, names: Iterable[bytes]) -> list[bytes]:
    """Return those of *names* that are close to *name*, the closest first, at most eight."""
    folded = _folded(name)
    found = []
    for other in names:
        if _folded(other) == folded:
            found.append((0, other))
        elif one_edit_apart(_text(name), _text(other)):
            found.append((1, other))
    return [other for _, other in sorted(found)[:_AT_MOST]]


def one_edit_apart(one: str, other: str) -> bool:
    """Return whether one letter added, removed, changed or swapped with its neighbour does it."""
    if abs(len(one) - len(other)) > 1 or one == other:
        return False
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    a, b = one[start:], other[start:]
    swapped = len(a) > 1 and a[1::-1] + a[2:] == b
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or swapped


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _folded(name: bytes) -> str:
    return unicodedata.normalize("NFKC", _text(name)).casefold()
