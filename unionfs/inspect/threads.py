"""Which process a thread is of: a mount hears of threads only, people name processes."""

from __future__ import annotations

import re
import time

_FRESH = 1.0  # seconds for which an answer is not looked up again: numbers are given anew
_MOST = 10_000  # threads that are remembered
_TGID = re.compile(rb"^Tgid:\t(\d+)$", re.MULTILINE)


class Threads:
    """The processes of this machine's threads, as far as they were there when asked about."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, float]] = {}

    def process_of(self, thread: int) -> int:
        """Return the number of the process that *thread* is of, or was when last asked about.

        The thread's own where it is gone and never was asked about (proc(5), /proc/PID/status).
        """
        known, at = self._known.get(thread, (thread, -_FRESH))
        now = time.monotonic()
        if now - at < _FRESH:
            return known
        if len(self._known) >= _MOST:
            self._known.clear()
        process = _process_of(thread) or known
        self._known[thread] = process, now
        return process


def _process_of(thread: int) -> int | None:
    try:
        with open(f"/proc/{thread}/status", "rb") as status:
            found = _TGID.search(status.read())
    except OSError:
        return None
    return int(found[1]) if found else None
