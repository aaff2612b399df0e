"""Signals that end a command: when they are raised, and when not."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from unionfs.syscalls.interrupt import (
    Interrupted,
    ending_asked,
    interruptible,
    let_go,
    uninterrupted,
)


def test_an_interruption_cleans_up_and_is_not_interrupted_itself() -> None:
    cleaned = False
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as caught, interruptible():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            cleaned = True
    assert cleaned
    assert caught.value.status == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_end_that_is_asked_for_cuts_nothing_short_but_the_second_time() -> None:
    before = signal.getsignal(signal.SIGINT)
    with ending_asked() as ending:
        assert ending() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert ending() == 128 + signal.SIGTERM
        with pytest.raises(Interrupted) as caught:
            os.kill(os.getpid(), signal.SIGINT)
        assert (ending(), caught.value.status) == (128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("within", [interruptible, ending_asked])
def test_what_nohup_had_ignored_does_not_interrupt(within) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with within() as ending:
            os.kill(os.getpid(), signal.SIGHUP)
            assert ending is None or ending() is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_is_not_interrupted_is_done_first() -> None:
    reached = []
    with pytest.raises(Interrupted) as caught, interruptible():
        with uninterrupted():
            with uninterrupted():
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGHUP)
                reached.append("inner")
            reached.append("outer")
        reached.append("after")
    assert reached == ["inner", "outer"]
    assert caught.value.status == 128 + signal.SIGTERM


def test_an_error_meanwhile_is_what_the_interruption_comes_after() -> None:
    with pytest.raises(Interrupted) as caught, interruptible(), uninterrupted():
        os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError
    assert isinstance(caught.value.__context__, ValueError)
    with uninterrupted():
        pass  # nothing is left of it


def test_another_thread_keeps_no_signal_away() -> None:
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        with uninterrupted():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait()
    try:
        with pytest.raises(Interrupted), interruptible():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        leave.set()
        thread.join()


def test_a_lock_whose_block_was_not_begun_is_let_go() -> None:
    held: list[str] = []

    @contextmanager
    def lock() -> Iterator[None]:
        held.append("lock")
        try:
            yield
        finally:
            held.clear()

    def enter() -> None:
        begun = lock()
        begun.__enter__()  # as with a signal between this and the block
        os.kill(os.getpid(), signal.SIGTERM)

    with interruptible():
        try:
            enter()
        except Interrupted as interruption:
            assert held
            let_go(interruption)
            assert not held
