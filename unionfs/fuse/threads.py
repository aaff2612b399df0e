"""Work in a thread, which a request waits for as cheaply as it can.

trio's way to a thread and back takes 140 us longer than the work, which is more than a good disk
takes to write a small file. Most work ends within a moment, and most programs wait for its answer
before they ask for anything else. So its end is waited for in poll(2) right here, for a moment, and
no longer than until somebody makes a request; from then on through trio, and everybody else is
answered meanwhile.

Rejected: to do such work in the loop's own thread where the disk was quick until now. One client's
chmod -R gained little more by it, and others waited for each sync. And to ask again and again
instead of sleeping: a write with fsync(2) took 270 to 410 us in place of 150 to 210.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from unionfs.fuse import loop

if TYPE_CHECKING:
    from outcome import Outcome

T = TypeVar("T")

_PLACES = 4  # for work that is waited for so, at a time; more than that is trio's

_BLOCKED_S = 0.005  # waited for so without a turn of trio's: for signals, timers, other descriptors

_blocked = 0.0  # seconds, since its last turn
_free: list[_Place] = []  # touched by the loop's thread alone


class _Place:
    """Where the end of one piece of work is told: a descriptor, and what waits for it."""

    __slots__ = ("_ended", "_poll")

    def __init__(self, requests: int) -> None:
        self._ended = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        poller = select.poll()
        poller.register(self._ended, select.POLLIN)
        poller.register(requests, select.POLLIN)
        self._poll = poller.poll

    async def run(self, work: Callable[[], T]) -> Outcome[T]:
        """Return how *work* ended; not before it has."""
        outcomes: list[Outcome[T] | None] = [None]

        def deliver(outcome: Outcome[T]) -> None:
            outcomes[0] = outcome
            os.eventfd_write(self._ended, 1)

        trio.lowlevel.start_thread_soon(work, deliver)
        if not self._has_ended():
            # What *work* uses is its own until it ends, so nothing cuts the wait short.
            with loop.waiting(), trio.CancelScope(shield=True):
                await trio.lowlevel.wait_readable(self._ended)
        elif _blocked > _BLOCKED_S:
            with loop.waiting():
                await trio.lowlevel.cancel_shielded_checkpoint()
            _note(0)
        os.eventfd_read(self._ended)
        (outcome,) = outcomes
        assert outcome is not None
        return outcome

    def _has_ended(self) -> bool:
        """Wait for the end, for a moment, and no longer than until somebody makes a request."""
        since = time.monotonic()
        ended = any(fd == self._ended for fd, _ in self._poll(loop.moment()))
        _note(_blocked + time.monotonic() - since if ended else 0)
        return ended


def _note(blocked: float) -> None:
    """Note for how long (seconds) trio had no turn."""
    global _blocked
    _blocked = blocked


def install(requests: int) -> None:
    """From now on look for requests at *requests*, the session's descriptor. Raises OSError."""
    _free[:] = [_Place(requests) for _ in range(_PLACES)]


async def run(work: Callable[..., T], *args: object) -> T:
    """Call *work* with *args* in a thread; return what it returns, or raise what it raises.

    It cannot be cancelled once it has begun. Others have their turn meanwhile if they ask for it;
    who must let them in even if they do not sees to that himself.
    """
    if not _free:
        with loop.waiting():
            return await trio.to_thread.run_sync(work, *args)
    place = _free.pop()
    outcome = await place.run(partial(work, *args))
    _free.append(place)  # not after an error: the work may be still under way
    return outcome.unwrap()
