"""Signals while waiting for a child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from unionfs.container.supervise import signals_held, supervise
from unionfs.syscalls.interrupt import Interrupted, interruptible


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


def test_held_signals_come_afterwards() -> None:
    reached = False
    with pytest.raises(Interrupted), interruptible(), signals_held():
        os.kill(os.getpid(), signal.SIGTERM)
        reached = True
    assert reached
