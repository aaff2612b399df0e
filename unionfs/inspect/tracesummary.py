"""A mount's requests by operation, added up as they come; as ``strace -c`` does it for calls."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import compress
from typing import Any

from unionfs.inspect.event import NEEDLESS
from unionfs.inspect.piece import Piece, operation_of


@dataclass(slots=True)
class Sum:
    """Requests of one kind; times in nanoseconds."""

    count: int = 0
    errors: int = 0
    total_ns: int = 0
    longest_ns: int = 0

    @property
    def mean_ns(self) -> float:
        """How long a request took on average, 0 without any."""
        return self.total_ns / self.count if self.count else 0.0


class Summary:
    """What requests add up to, by number of the operation; a column of a piece at a time."""

    def __init__(self) -> None:
        self._sums: dict[int, Sum] = {}

    def add(self, piece: Piece) -> None:
        """Count the requests of *piece*."""
        opcodes, took, errnos = piece.opcodes(), piece.took_ns(), piece.errnos()
        different = set(opcodes)
        for opcode in different:
            if len(different) == 1:
                self._note(opcode, took, errnos)
            else:
                its = opcodes.translate(_table(opcode))
                self._note(opcode, list(compress(took, its)), list(compress(errnos, its)))

    def _note(self, opcode: int, took: Sequence[int], errnos: Sequence[int]) -> None:
        one = self._sums.setdefault(opcode, Sum())
        one.count += len(took)
        one.total_ns += sum(took)
        one.longest_ns = max(one.longest_ns, max(took))
        fine = errnos.count(0)
        if operation_of(opcode) in NEEDLESS:
            fine += errnos.count(errno.ENOSYS)
        one.errors += len(errnos) - fine

    def all(self) -> Sum:
        """Return what all of them are together."""
        sums = self._sums.values()
        return Sum(
            sum(one.count for one in sums),
            sum(one.errors for one in sums),
            sum(one.total_ns for one in sums),
            max((one.longest_ns for one in sums), default=0),
        )

    def ordered(self) -> list[tuple[str, Sum]]:
        """Return the operations by name, those that took most time first."""
        named = [(operation_of(opcode), one) for opcode, one in self._sums.items()]
        return sorted(named, key=lambda item: (-item[1].total_ns, item[0]))

    def share(self, one: Sum) -> float:
        """Return the percentage of all time that *one* took."""
        total = sum(each.total_ns for each in self._sums.values())
        return 100 * one.total_ns / total if total else 0.0

    def document(self) -> dict[str, Any]:
        """Return it for JSON: times in nanoseconds."""
        return {
            name: {
                "percent": round(self.share(one), 3),
                "total_ns": one.total_ns,
                "mean_ns": round(one.mean_ns),
                "longest_ns": one.longest_ns,
                "count": one.count,
                "errors": one.errors,
            }
            for name, one in self.ordered()
        }


@cache
def _table(opcode: int) -> bytes:
    """Return what makes a column of operations one that tells which are *opcode*."""
    return bytes(number == opcode for number in range(256))
