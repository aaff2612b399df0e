"""Whose thread it is that asked."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.traced import asked, piece_of
from unionfs.inspect import threads
from unionfs.inspect.threads import Threads
from unionfs.inspect.tracefilter import Filter


@contextmanager
def another() -> Iterator[int]:
    """A thread of this process; gone afterwards."""
    end, numbers = threading.Event(), list[int]()
    begun = threading.Event()

    def live() -> None:
        numbers.append(threading.get_native_id())
        begun.set()
        end.wait()

    thread = threading.Thread(target=live)
    thread.start()
    begun.wait()
    yield numbers[0]
    end.set()
    thread.join()
    while os.path.exists(f"/proc/{numbers[0]}"):
        pass


def test_a_process_is_all_its_threads() -> None:
    with another() as thread:
        assert thread != os.getpid()
        asking = piece_of(asked("read", pid=pid) for pid in (thread, os.getpid(), os.getppid(), 0))
        whole = Filter(pids=frozenset((os.getpid(),)))
        assert list(whole.chosen(asking).pids()) == [thread, os.getpid()]
        alone = Filter(pids=frozenset((thread,)))
        assert list(alone.chosen(asking).pids()) == [thread]


def test_a_thread_that_is_gone_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    known, none = Threads(), Threads()
    monkeypatch.setattr(threads, "_FRESH", 0.0)
    with another() as thread:
        assert known.process_of(thread) == os.getpid()
    assert known.process_of(thread) == os.getpid()
    assert none.process_of(thread) == thread


def test_it_does_not_remember_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_MOST", 3)
    known = Threads()
    for number in range(5_000_000, 5_000_010):
        assert known.process_of(number) == number
    assert len(known._known) <= 3
