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

_TURNS = 64  # requests that may pass without the scheduler (about 5 ms)


def install(fd: int) -> None:
    """Make pyfuse3's main loop ask *fd*, the session's descriptor, before it suspends."""
    wait: Callable[[], Awaitable[bool]] | None = getattr(pyfuse3, "_wait_fuse_readable", None)
    if wait is None:
        return
    pyfuse3._wait_fuse_readable = _quick(fd, wait)  # type: ignore[attr-defined]


def _quick(fd: int, wait: Callable[[], Awaitable[bool]]) -> Callable[[], Awaitable[bool]]:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    poll = poller.poll
    turns = 0

    async def quick() -> bool:
        nonlocal turns
        turns += 1
        if turns % _TURNS and poll(0):
            return True
        return await wait()

    return quick
