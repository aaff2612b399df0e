"""Calls beside the loop: most end at once, and one that does not keeps nobody."""

from __future__ import annotations

import threading
import time

from tests.support.files import refused
from unionfs.fuse.aside import Aside


def _until_done(aside: Aside) -> None:
    deadline = time.monotonic() + 10
    while not aside.did(lambda: None):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_call_is_made_and_its_error_is_the_callers() -> None:
    aside, made = Aside(), list[int]()

    def fail() -> None:
        raise OSError(2, "gone")

    for number in range(100):
        _until_done(aside)
        if aside.did(lambda number=number: made.append(number)):
            assert made[-1] == number
    assert made == list(range(100))
    _until_done(aside)
    with refused(2):
        for _ in range(100):  # it may take longer than it is waited for, now and then
            aside.did(fail)
            _until_done(aside)


def test_one_that_does_not_end_is_left_alone() -> None:
    aside, end, begun = Aside(), threading.Event(), threading.Event()

    def stay() -> None:
        begun.set()
        end.wait(10)

    assert not aside.did(stay)
    assert begun.wait(10)
    before = time.monotonic()
    others = [aside.did(lambda: None) for _ in range(10)]
    assert not any(others)
    assert time.monotonic() - before < 5
    end.set()
    _until_done(aside)
