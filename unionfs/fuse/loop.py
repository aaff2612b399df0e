"""A cheaper wait for the next request.

trio's wait for a descriptor costs two trips through its scheduler, which is the largest single
cost of a request inside the process. The next request usually follows within a fraction of a
millisecond, so the loop first waits for it in poll(2) by itself, for a moment, and only then
through trio. That moment is what signals may have to wait; while a thread is at work for a request
(``waiting``), and every so often in any case, trio gets its turn at once.

pyfuse3 calls its module's ``_wait_fuse_readable`` by name; where a version has none, its own wait
stays and everything works, slower.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pyfuse3
import trio

from unionfs.fuse import native

_TURNS = 64  # requests that may pass without the scheduler (about 5 ms)
_MOMENT_MS = 2
_SPIN_US = 200  # KVM's for the same trade (halt_poll_ns); find, imports, compilers think so long

Wait = Callable[[], Awaitable[bool]]
T = TypeVar("T")

FULL = frozenset((errno.ENOSPC, errno.EDQUOT))  # what a disk without room says
_PASSES = 300  # turns of the scheduler in which what is in the queue must have been read

_QUIET = 20  # turns of the scheduler in which nobody must be at work, to say that nobody is

_at_turns: Callable[[], None] | None = None  # to be done each time before a request is waited for

_gate: trio.Event | None = None  # while it is there, no request is read
_is_gated = False  # whether requests can be kept from being read
_poll: Callable[[int], object] | None = None  # of the session's descriptor
_waiting = 0  # tasks that wait for a thread's end; one thread, between awaits


def _without_naps(limit: int) -> None:
    """Reads wait for nothing where the session is not hooked."""


_set_nap: Callable[[int], None] = _without_naps  # how long reads may wait for a request, in ms


@contextmanager
def waiting() -> Iterator[None]:
    """While it is entered, the loop does not block: a task waits for something but a request."""
    global _waiting
    _waiting += 1
    _set_nap(0)
    try:
        yield
    finally:
        _waiting -= 1
        if not _waiting:
            _set_nap(_MOMENT_MS)


def moment() -> int:
    """Return for how many milliseconds the loop may block: not at all while a task is waiting."""
    return 0 if _waiting else _MOMENT_MS


async def freeze() -> None:
    """Read no more requests; return when none is under way. ``thaw`` ends that.

    What the kernel asks meanwhile stays in its queue. Raises OSError where pyfuse3 cannot be told.
    """
    global _gate
    if not _is_gated:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    _gate = trio.Event()
    quiet = 0
    while quiet < _QUIET:
        await trio.lowlevel.checkpoint()
        quiet += 1
        if _waiting:
            quiet = 0
            await trio.sleep(_MOMENT_MS / 1000)


def thaw() -> None:
    """Read requests again."""
    global _gate
    if _gate is not None:
        _gate.set()
        _gate = None


def at_turns(work: Callable[[], None] | None) -> None:
    """From now on do *work* each time before a request is waited for; None: nothing."""
    global _at_turns
    _at_turns = work


def _gated(wait: Wait) -> Wait:
    """Return *wait*, kept from returning while there is a gate."""

    async def gated() -> bool:
        if _at_turns is not None:
            _at_turns()
        found = await wait()
        while _gate is not None:
            await _gate.wait()
            found = await wait()  # somebody else may have read what was there
        return found

    return gated


async def with_room(work: Callable[[], Awaitable[T]]) -> T:
    """Do *work*; where the disk is full for it, once more when the queue has been read.

    A removed file takes room for as long as we have it open, and the kernel's word that nobody else
    has it (FORGET, RELEASE) may be in the queue behind a request that came later: to the program,
    the file was gone before. *work* must be one that can be done again. Raises what it raises.
    """
    try:
        return await work()
    except OSError as error:
        if error.errno not in FULL:
            raise
    with waiting():
        for _ in range(_PASSES):
            if _poll is None or not _poll(0):
                break
            await trio.lowlevel.checkpoint()
    return await work()


def install(fd: int) -> None:
    """Make pyfuse3's main loop wait for *fd*, the session's descriptor, as said above."""
    poll = _poller(fd)

    def wrap(wait: Wait) -> Wait:
        turns = 0

        async def quick() -> bool:
            nonlocal turns
            turns += 1
            if turns % _TURNS and poll(moment()):
                return True
            # Between the scheduler's waking this task and its turn another one may have come
            # here by the way above and read the request: then a read would block everybody.
            while await wait():
                if poll(0):
                    return True
            return False

        return quick

    _replace(wrap)


def install_hooked(fd: int, *, spin: int | None) -> None:
    """The same for a session whose reads wait for that moment by themselves (``native``).

    One that finds nothing ends in EINTR, upon which pyfuse3 comes here again. *spin* is how many
    microseconds a read may try again before it waits (None: as many as usually pay).
    """
    global _set_nap
    assert native.hooks is not None
    native.hooks.set_spin(spin_limit(spin))
    misses = native.hooks.misses
    _poller(fd)
    _set_nap = native.hooks.set_nap
    _set_nap(_MOMENT_MS)

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


def spin_limit(asked: int | None) -> int:
    """Return for how many microseconds at most to busy-poll, where *asked* for so many.

    None leaves it to us: not at all where the client needs the only processor.
    """
    if asked is not None:
        return asked
    return _SPIN_US if len(os.sched_getaffinity(0)) > 1 else 0


def _poller(fd: int) -> Callable[[int], object]:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    global _poll
    _poll = poller.poll
    return poller.poll


def _replace(wrap: Callable[[Wait], Wait]) -> None:
    wait: Wait | None = getattr(pyfuse3, "_wait_fuse_readable", None)
    if wait is not None:
        global _is_gated
        _is_gated = True
        pyfuse3._wait_fuse_readable = _gated(wrap(wait))  # type: ignore[attr-defined]
