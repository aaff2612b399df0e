"""Records that say when they were written: for readers and writers of one file at a time.

A file is an array of records of 8 bytes, each its own number and a generation. A writer notes a
generation as begun before it writes it and as done when the write returned (in memory that all
processes share); a reader notes what is done before it reads. What it then finds must lie between.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import time
from collections.abc import Callable, Iterable

RECORD = 8
_PAIR = struct.Struct("<II")


def initial(count: int) -> bytes:
    """Return *count* records of generation 0."""
    return b"".join(_PAIR.pack(number, 0) for number in range(count))


class Board:
    """What every process knows: generations begun and done of each record, and whether to stop."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._memory = mmap.mmap(-1, 8 * count + 8)
        self._begun = memoryview(self._memory)[: 4 * count].cast("I")
        self._done = memoryview(self._memory)[4 * count : 8 * count].cast("I")
        self._stop = memoryview(self._memory)[8 * count :]

    def write(self, number: int, put: Callable[[int, bytes], object]) -> None:
        """Write record *number* once more by *put* (offset, bytes); for its only writer."""
        generation = self._begun[number] + 1
        self._begun[number] = generation
        put(number * RECORD, _PAIR.pack(number, generation))
        self._done[number] = generation

    def read(self, first: int, count: int, get: Callable[[int, int], bytes]) -> None:
        """Read *count* records from *first* by *get* (offset, size), and judge them."""
        least = self._done[first : first + count].tolist()
        data = get(first * RECORD, count * RECORD)
        most = self._begun[first : first + count].tolist()
        assert len(data) == count * RECORD, f"{len(data)} bytes rather than {count * RECORD}"
        for position, (number, generation) in enumerate(_PAIR.iter_unpack(data)):
            assert number == first + position, f"record {first + position} is {number}"
            assert least[position] <= generation <= most[position], (
                f"record {number} has generation {generation}:"
                f" {least[position]} was done, {most[position]} begun"
            )

    def stop(self) -> None:
        """Tell every process to come to its end."""
        self._stop[0] = 1

    @property
    def going(self) -> bool:
        """Whether nobody said stop."""
        return not self._stop[0]


def together(functions: Iterable[Callable[[], object]], board: Board, *, seconds: float) -> None:
    """Run *functions* in a process each, for *seconds*; each looks at ``board.going``.

    Raises AssertionError if one fails or dies; what it raised is on standard error.
    """
    pids = [_start(function, board) for function in functions]
    end = time.monotonic() + seconds
    while board.going and time.monotonic() < end:
        time.sleep(0.01)
    board.stop()
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert not any(statuses), f"the processes ended with {statuses}"


def _start(function: Callable[[], object], board: Board) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.alarm(120)
        function()
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
        board.stop()
    finally:
        os._exit(status)
