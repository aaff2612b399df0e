"""Signals that end a command: raised as an exception where it is, but not in a transaction.

Python runs a handler between any two instructions, also between a generator's ``yield`` and the
``with`` block that it is for, and in the middle of a loop over a query's rows. What is at work
there is kept by the exception's traceback until the exception is dealt with, so while the command
cleans up, a lock among it is still held. Blocking the signal (sigprocmask(2)) would not do: another
thread takes it then, and the handler runs in the main thread all the same.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = frozenset((signal.SIGHUP, signal.SIGINT, signal.SIGTERM))
_Handler = Callable[[int, FrameType | None], None]

_held = 0  # blocks of ``uninterrupted`` that the main thread is in
_waiting: int | None = None  # a signal that came meanwhile


class Interrupted(BaseException):
    """A signal asked the command to end; ``status`` is the exit status for it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first ending signal into Interrupted while the block runs, so that it cleans up.

    Further ones do not cut the cleaning up short. What was ignored stays so (nohup(1)).
    """
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            _interrupt(number)

    with _handled_by(interrupt):
        yield


@contextmanager
def ending_asked() -> Iterator[Callable[[], int | None]]:
    """Note the first ending signal while the block runs, and cut nothing short.

    Yields what tells the exit status for it, None while none came. For loops that look often: a
    second signal is Interrupted at once. What was ignored stays so.
    """
    came: list[int] = []

    def notice(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            _interrupt(number)

    with _handled_by(notice):
        yield lambda: 128 + came[0] if came else None


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let no Interrupted be raised in the block, but at its end; for what takes milliseconds.

    In another thread than the main one, where none is ever raised, this does nothing.
    """
    global _held, _waiting
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _held += 1
    try:
        yield
    finally:
        _held -= 1
        if not _held and _waiting is not None:
            number, _waiting = _waiting, None
            raise Interrupted(number)


def let_go(interruption: Interrupted) -> None:
    """Have what was interrupted give up the locks that its traceback keeps; before waiting for one.

    A ``with`` block that had its lock and was not yet begun ends here, and not before.
    """
    from traceback import clear_frames  # which nobody needs who is not interrupted

    clear_frames(interruption.__traceback__)


def _interrupt(number: int) -> None:
    global _waiting
    if not _held:
        raise Interrupted(number)
    _waiting = number


@contextmanager
def _handled_by(handler: _Handler) -> Iterator[None]:
    """Let *handler* have the ending signals while the block runs, but for those ignored now."""
    heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
