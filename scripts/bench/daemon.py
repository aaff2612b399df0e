"""What our daemon did for each row: CPU time, busy-polling (option ``spin``), requests."""

from __future__ import annotations

import json
import os
import time

from scripts.bench.stats import Measured, table

_CPU, _POLLED = "daemon's CPU", "of it polling"
_ALL, _PYTHON = "requests", "Python's"


class Work:
    """Its work so far, by the row's name: ``times`` in ms, ``requests`` in numbers.

    Requests are those of the row and of what it does before its clock starts; FORGETs, which nobody
    waits for, are not among them.
    """

    def __init__(self) -> None:
        self.times: dict[str, Measured] = {}
        self.requests: dict[str, Measured] = {}

    def note(self, row: str, point: str, cpu: float) -> None:
        """Add what the mount on *point* did in its life, with *cpu* ms for the *row*."""
        said = json.loads(os.getxattr(point, "user.unionfs.stats"))
        took = self.times.setdefault(row, Measured(row, "ms"))
        took.add(_CPU, cpu)
        took.add(_POLLED, said["busy_polling"]["spent_ns"] / 1e6)
        count = sum(kind["count"] for kind in said["requests"].values())
        asked = self.requests.setdefault(row, Measured(row, ""))
        asked.add(_ALL, count)
        asked.add(_PYTHON, count - said["answered_by_extension"])

    def tables(self) -> str:
        """Return both as text; nothing where no daemon of ours was measured."""
        if not self.times:
            return ""
        times = table(list(self.times.values()), [_CPU, _POLLED], _CPU)
        return f"{times}\n\n{table(list(self.requests.values()), [_ALL, _PYTHON], _ALL)}"


def cpu_ms(pid: int) -> float:
    """Return the CPU time of a process so far, in ms. Raises OSError if it is gone."""
    clock = (~pid << 3) | 2  # clock_getcpuclockid(3), which Python has for threads only
    return time.clock_gettime(clock) * 1000
