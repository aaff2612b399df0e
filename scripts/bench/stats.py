"""Medians, ratios, and the table that shows them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(slots=True)
class Measured:
    """One row: what was timed, its unit, and each contender's values, less being better."""

    name: str
    unit: str
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, contender: str, value: float) -> None:
        """Note one run's value."""
        self.values.setdefault(contender, []).append(value)

    def median(self, contender: str) -> float | None:
        """Return the contender's median, None when it has no value here."""
        values = self.values.get(contender)
        return median(values) if values else None

    def ratio(self, contender: str, baseline: str) -> float | None:
        """Return the contender's median over the baseline's; None when there is no such number."""
        ours, theirs = self.median(contender), self.median(baseline)
        return ours / theirs if ours is not None and theirs else None


def table(rows: Sequence[Measured], contenders: Sequence[str], baseline: str) -> str:
    """Return the medians as text, each but the baseline's followed by its ratio to that."""
    lines = [["", "", *contenders]]
    lines += [[row.name, row.unit, *_cells(row, contenders, baseline)] for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(_aligned(line, widths) for line in lines)


def _cells(row: Measured, contenders: Sequence[str], baseline: str) -> list[str]:
    return [
        _cell(row.median(name), row.ratio(name, baseline), name == baseline) for name in contenders
    ]


def _cell(middle: float | None, ratio: float | None, is_baseline: bool) -> str:
    if middle is None:
        return "-"
    beside = "" if is_baseline else f" {ratio:6.2f}x" if ratio is not None else "        -"
    return f"{_number(middle)}{beside}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    words = [line[0].ljust(widths[0]), line[1].ljust(widths[1])]
    words += [word.rjust(width) for word, width in zip(line[2:], widths[2:], strict=True)]
    return "  ".join(words).rstrip()
