"""Records made pieces that can be understood by themselves: with what their nodes are called.

A piece is added to until it is large, somebody wants it, or a node in it is called otherwise than
before: then the next begins. So there are few of them, also where nodes are moved and forgotten all
the time, and a request costs little.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from unionfs.inspect.records import PIECE, RECORD, REPLY

_LARGEST = 65536 - REPLY.size - PIECE.size  # of what is in a piece: XATTR_SIZE_MAX

_WORDS = RECORD.size // 8  # of 64 bits; the third to fifth are numbers of nodes
_NAMES_AT = struct.Struct("=56xI")  # in a record
_WRAP = 0xFFFFFFFF

Made = tuple[bytes, int]  # a piece, and how many records are in it


class Pieces:
    """Makes pieces; ``clock`` is what their times are counted from (ns since 1970)."""

    def __init__(self, told: Callable[[int], bytes]) -> None:
        """*told* says what a node is called now, as it is sent."""
        self.clock = 0
        self._told = told
        self._forget()

    def _forget(self) -> None:
        self._nodes: dict[int, bytes] = {}
        self._records: list[bytes] = []
        self._names: list[bytes] = []
        self._base = self._size = 0

    def add(self, records: bytes, names: bytes) -> list[Made]:
        """Add *records*, whose names are *names*; return the pieces that came to an end."""
        made: list[Made] = []
        if records:
            self._add(records, names, made)
        return made

    def end(self) -> list[Made]:
        """Return the piece that was added to, if there is one."""
        if not self._records:
            return []
        parts = [b"".join(each) for each in (self._nodes.values(), self._records, self._names)]
        head = PIECE.pack(*map(len, parts), self._base, self.clock)
        self._forget()
        return [(head + b"".join(parts), len(parts[1]) // RECORD.size)]

    def _add(self, records: bytes, names: bytes, made: list[Made]) -> None:
        told = {number: self._told(number) for number in _numbers(records)}
        size = sum(map(len, told.values())) + len(records) + len(names)
        if size > _LARGEST and len(records) > RECORD.size:
            for half in _halves(records, names):
                self._add(*half, made)
            return
        if self._size + size > _LARGEST or self._contradicts(told):
            made += self.end()
        if not self._records:
            (self._base,) = _NAMES_AT.unpack_from(records)
        self._nodes |= told
        self._records.append(records)
        self._names.append(names)
        self._size += size  # or less: a node that was told before is not told again

    def _contradicts(self, told: dict[int, bytes]) -> bool:
        known = self._nodes.get
        for number, node in told.items():  # noqa: SIM110 (any() takes three times as long)
            if known(number, node) != node:
                return True
        return False


def _numbers(records: bytes) -> set[int]:
    """Return the numbers of all nodes in *records*."""
    words = memoryview(records).cast("Q")
    numbers = {*words[2::_WORDS].tolist(), *words[3::_WORDS].tolist()}
    numbers.update(words[4::_WORDS].tolist())
    numbers.discard(0)
    return numbers


def _halves(records: bytes, names: bytes) -> Iterator[tuple[bytes, bytes]]:
    middle = len(records) // RECORD.size // 2 * RECORD.size
    (begin,) = _NAMES_AT.unpack_from(records)
    (end,) = _NAMES_AT.unpack_from(records, middle)
    cut = end - begin & _WRAP
    yield records[:middle], names[:cut]
    yield records[middle:], names[cut:]
