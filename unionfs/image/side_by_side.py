"""Running a few blocking jobs side by side, all or nothing.

Threads and not processes: decompression, hashing and waiting for the disk happen without the
interpreter's lock, so that one layer is synced while the next is made. Processes were tried: on a
busy machine they were as often slower as faster, and forking inside somebody's program has a price.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

_WORKERS = 2
_GRACE = 5.0  # seconds to let a stopped job clean up after itself


class Stopped(Exception):
    """No error of its own: raised in a job by ``Stop.check`` when another job has failed."""


class Stop:
    """Tells jobs to give up; *also* is called then, to wake those that wait for something."""

    def __init__(self, also: Callable[[], None] | None = None) -> None:
        self._event = threading.Event()
        self._also = also

    def set(self) -> None:
        """Make every later ``check`` raise."""
        self._event.set()
        if self._also is not None:
            self._also()

    def check(self) -> None:
        """Raise Stopped if the jobs are to give up."""
        if self._event.is_set():
            raise Stopped


def run_all(jobs: Sequence[Callable[[], None]], stop: Stop) -> None:
    """Run *jobs*, two at a time, in order; return when all are done.

    The first exception of a job, or one in the calling thread (KeyboardInterrupt), sets *stop* and
    is raised when the running jobs, which call ``stop.check`` now and then, have ended. One that
    waits in a system call is left behind after some seconds and ends at its next check.
    """
    waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    results: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)

    def work() -> None:
        while True:
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                stop.check()
                job()
            except BaseException as error:  # raised again in the calling thread
                results.put(error)
                stop.set()  # after that: nothing that ends by it shall be the first error
            else:
                results.put(None)

    workers = [
        threading.Thread(target=work, name=f"job-{number}", daemon=True)
        for number in range(min(_WORKERS, len(jobs)))
    ]
    try:
        for worker in workers:
            worker.start()  # the first may be at work, and be interrupted, before the next starts
        for _ in jobs:
            error = results.get()
            if error is not None:
                raise error
    except BaseException:
        stop.set()
        for worker in filter(threading.Thread.is_alive, workers):
            worker.join(_GRACE)
        raise
