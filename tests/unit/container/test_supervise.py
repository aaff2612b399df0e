"""Signals while waiting for a child, and while cleaning up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from unionfs.container.supervise import (
    Interrupted,
    ending_asked,
    interruptible,
    signals_held,
    supervise,
)


def child(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code])


@pytest.mark.parametrize(
    ("code", "status"),
    [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137), ("", 0)],
)
def test_the_status_is_the_child_s(code: str, status: int) -> None:
    with signals_held():
        assert supervise(child(code), lambda number: None) == status


def test_a_signal_is_passed_on_and_the_third_request_kills() -> None:
    sent: list[int] = []
    came: list[int] = []
    with signals_held():
        for number in (signal.SIGUSR1, signal.SIGTERM):
            os.kill(os.getpid(), number)
        process = child("import time; time.sleep(60)")

        def send(number: int) -> None:
            sent.append(number)
            if number == signal.SIGTERM and sent.count(signal.SIGTERM) < 3:
                os.kill(os.getpid(), signal.SIGTERM)
            if number == signal.SIGKILL:
                process.kill()

        assert supervise(process, send, came.append) == 128 + signal.SIGKILL
    assert sent == [signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGKILL]
    assert came == [signal.SIGUSR1, *3 * [signal.SIGTERM]]


def test_a_child_that_is_gone_is_no_error() -> None:
    with signals_held():
        os.kill(os.getpid(), signal.SIGTERM)
        process = child("")

        def send(number: int) -> None:
            raise ProcessLookupError

        assert supervise(process, send) == 0


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


def test_held_signals_come_afterwards() -> None:
    reached = False
    with pytest.raises(Interrupted), interruptible(), signals_held():
        os.kill(os.getpid(), signal.SIGTERM)
        reached = True
    assert reached


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
