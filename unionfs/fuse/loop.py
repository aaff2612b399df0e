"""A cheaper wait for the next request.

trio's wait for a descriptor costs two trips through its scheduler, which is the largest single cost
of a request inside the process. While requests keep coming, asking the descriptor once with poll(2)
answers without any. Every so often the full wait runs all the same, so that signals, threads' ends
and other requests get their turn.

pyfuse3 calls its module's ``_wait_fuse_readable`` by name; where a version has none, its own wait
stays and everything works, slower.
"""

from __future__ import annotations

import select
from collections.abc import Awaitable, Callable

import pyfuse3

from unionfs.fuse import native

_TURNS = 64  # requests that may pass without the scheduler (about 5 ms)

Wait = Callable[[], Awaitable[bool]]


def install(fd: int) -> None:
    """Make pyfuse3's main loop ask *fd*, the session's descriptor, before it suspends."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    poll = poller.poll

    def wrap(wait: Wait) -> Wait:
        turns = 0

        async def quick() -> bool:
            nonlocal turns
            turns += 1
            if turns % _TURNS and poll(0):
                return True
            return await wait()

        return quick

    _replace(wrap)


def install_hooked() -> None:
    """Make pyfuse3's main loop read at once, and suspend only when there was nothing.

    For a session whose reads do not block (``native``): a read that finds nothing ends in EINTR,
    upon which pyfuse3 comes here again.
    """
    assert native.hooks is not None
    misses = native.hooks.misses

    def wrap(wait: Wait) -> Wait:
        turns = 0
        missed = misses()

        async def quick() -> bool:
            nonlocal turns, missed
            turns += 1
            now = misses()
            if turns % _TURNS and now == missed:
                return True
            missed = now
            return await wait()

        return quick

    _replace(wrap)


def _replace(wrap: Callable[[Wait], Wait]) -> None:
    wait: Wait | None = getattr(pyfuse3, "_wait_fuse_readable", None)
    if wait is not None:
        pyfuse3._wait_fuse_readable = wrap(wait)  # type: ignore[attr-defined]
