"""Waiting for a child while passing signals on to it.

Signals are blocked and taken one at a time with sigwaitinfo(2), so that none is lost between
"started" and "waiting", and so that clean-up is never cut short by a second one.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from unionfs.syscalls.interrupt import ENDING

FORWARDED = frozenset(
    (
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
    )
)
_PATIENCE = 3  # as docker's client: the third request to end is not left to the process
_SI_KERNEL = 0x80  # asm-generic/siginfo.h: sent by the kernel, here the terminal


class Child(Protocol):
    """What is waited for: a ``subprocess.Popen``, or a fork."""

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""


@contextmanager
def signals_held() -> Iterator[None]:
    """Keep signals waiting while the block runs; those that came are delivered after it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*FORWARDED, signal.SIGCHLD})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def supervise(
    child: Child, send: Callable[[int], None], came: Callable[[int], None] | None = None
) -> int:
    """Wait for *child* and return its exit status, 128+n if signal n ended it.

    Signals that come meanwhile go to *send*, except those that the terminal gave to the child as
    well; the third request to end becomes SIGKILL. *came* is told of each of them, before it is
    sent. To be called with ``signals_held``.
    """
    requests = 0
    while True:
        # The timeout is a safety net only: SIGCHLD of a child that ended is pending by now.
        info = signal.sigtimedwait({*FORWARDED, signal.SIGCHLD}, 1.0)
        status = child.poll()
        if status is not None:
            return status if status >= 0 else 128 - status
        if info is None or info.si_signo == signal.SIGCHLD:
            continue
        if came is not None:
            came(info.si_signo)
        requests += info.si_signo in ENDING
        if requests >= _PATIENCE:
            _try(send, signal.SIGKILL)
        elif info.si_code != _SI_KERNEL:
            _try(send, info.si_signo)


def _try(send: Callable[[int], None], number: int) -> None:
    try:
        send(number)
    except ProcessLookupError:
        pass  # it has just ended; the next round sees it
