"""A thread for calls that hardly ever take long, but that may take for ever."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

_MOMENT = 0.0005  # seconds


class Aside:
    """Makes calls in a thread of its own, and waits a moment for each.

    Trio's threads do as well, and the loop goes on meanwhile; but with one of them the listing of a
    changed directory took 194 us and with this 138 (``threads.run``, which also looks for requests,
    takes 12 more). Used by the loop's thread alone.

    ``_calls`` hands a call over. ``_result`` is written by the thread and read by the loop, never
    at the same time: while ``_busy`` it is the thread's, until that releases ``_done``.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._done = threading.Lock()  # of the standard library's ways to wait the quickest
        self._done.acquire()
        self._result: Exception | None = None
        self._busy = False
        self._thread: threading.Thread | None = None

    def did(self, call: Callable[[], object]) -> bool:
        """Make *call* and return whether it has ended; if not, it is still under way, or not begun.

        Raises what it raised.
        """
        if self._busy and not self._done.acquire(blocking=False):
            return False
        self._busy = True
        self._start()
        self._calls.put(call)
        if not self._done.acquire(timeout=_MOMENT):
            return False
        self._busy = False
        if self._result is not None:
            raise self._result
        return True

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="aside", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            call = self._calls.get()
            try:
                call()
                self._result = None
            except Exception as error:
                self._result = error
            self._done.release()
