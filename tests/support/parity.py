"""The rule for three answers: a plain directory's, the kernel's overlayfs's and ours.

All three equal is right. Ours different from both is wrong. Where the kernel's overlayfs differs
from a plain directory, a row of the exceptions table must name the call and say which of the two
answers is ours (DESIGN.md 2.4).
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable
from dataclasses import dataclass

TABLE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "mount", "parity", "exceptions")
_OURS = ("plain", "kernel", "either")


@dataclass(frozen=True, slots=True)
class Row:
    """A known difference. *plain* and *kernel* are patterns as of a shell, over the answers."""

    call: str
    plain: str
    kernel: str
    ours: str
    why: str

    def covers(self, call: str, plain: str, kernel: str) -> bool:
        return (
            fnmatch.fnmatchcase(call, self.call)
            and fnmatch.fnmatchcase(plain, self.plain)
            and fnmatch.fnmatchcase(kernel, self.kernel)
        )

    def allows(self, plain: str, kernel: str, ours: str) -> bool:
        return {
            "plain": ours == plain,
            "kernel": ours == kernel,
            "either": ours in (plain, kernel),
        }[self.ours]


def parse(lines: Iterable[str]) -> list[Row]:
    """Return the rows of a table: five columns between bars; ``#`` begins a comment line.

    Raises ValueError for a row that lacks a column or a reason.
    """
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        columns = [column.strip() for column in line.split("|")]
        if len(columns) != 5 or not all(columns) or columns[3] not in _OURS:
            raise ValueError(f"line {number} is not 'call | plain | kernel | ours | why': {line!r}")
        rows.append(Row(*columns))
    return rows


def load(path: str = TABLE) -> list[Row]:
    with open(path, encoding="utf-8") as table:
        return parse(table)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether three answers are right, and the row that made them so, if one was needed."""

    right: bool
    row: Row | None = None


def judge(rows: Iterable[Row], call: str, plain: object, kernel: object, ours: object) -> Verdict:
    """Return whether *ours* is right. *call* names the operation and what it was done to."""
    if plain == kernel:
        return Verdict(ours == plain)
    texts = (show(plain), show(kernel), show(ours))
    for row in rows:
        if row.covers(call, texts[0], texts[1]) and row.allows(*texts):
            return Verdict(True, row)
    return Verdict(False)


def show(answer: object) -> str:
    """Return *answer* as the table writes it: an errno's name or a value as it prints."""
    if answer is None:
        return "success"
    return answer if isinstance(answer, str) else repr(answer)
