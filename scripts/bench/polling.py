"""What our daemon's busy-polling (option ``spin``) costs, beside all of its CPU time."""

from __future__ import annotations

import json
import os
import time

from scripts.bench.stats import Measured

DAEMON, POLLED = "daemon's CPU", "of it polling"


def cpu_ms(pid: int) -> float:
    """Return the CPU time of a process so far, in ms. Raises OSError if it is gone."""
    clock = (~pid << 3) | 2  # clock_getcpuclockid(3), which Python has for threads only
    return time.clock_gettime(clock) * 1000


def note(results: dict[str, Measured], row: str, point: str, cpu: float) -> None:
    """Add to *results* what the mount on *point* polled in its life, for *cpu* ms of the *row*."""
    said = json.loads(os.getxattr(point, "user.unionfs.stats"))["busy_polling"]
    measured = results.setdefault(row, Measured(row, "ms"))
    measured.add(DAEMON, cpu)
    measured.add(POLLED, said["spent_ns"] / 1e6)
