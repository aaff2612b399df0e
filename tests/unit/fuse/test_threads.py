"""Work in a thread: its end is waited for right there, but never while somebody asks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import trio

from tests.support.files import refused
from unionfs.fuse import loop, threads

LONG_MS = 20_000  # what would be waited for if nothing ended it

pytestmark = pytest.mark.trio


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Make a request, which stays in the queue."""
    reader, writer = os.pipe()
    monkeypatch.setattr(threads, "_free", [])
    monkeypatch.setattr(threads, "_blocked", 0.0)
    monkeypatch.setattr(loop, "_MOMENT_MS", LONG_MS)
    threads.install(reader)
    places = list(threads._free)
    yield lambda: os.write(writer, b"request")
    assert sorted(map(id, threads._free)) == sorted(map(id, places))
    for fd in (reader, writer, *(place._ended for place in places)):
        os.close(fd)


async def test_what_the_work_gives_is_the_callers(ask: Callable[[], int]) -> None:
    def fail() -> None:
        raise OSError(2, "gone")

    for number in range(100):
        assert await threads.run(lambda first, second: first + second, number, 1) == number + 1
        with refused(2):
            await threads.run(fail)


async def test_nobody_else_has_a_turn_where_nobody_asks(ask: Callable[[], int]) -> None:
    turns: list[str] = []

    async def other() -> None:
        turns.append("other")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert await threads.run(threading.get_ident) != threading.get_ident()
        turns.append("work")
    assert turns == ["work", "other"]


async def test_who_asks_has_a_turn_before_the_work_ends(ask: Callable[[], int]) -> None:
    """Whether the request was there before, or comes while the work is waited for."""
    for when in (0, 0.05):
        end = threading.Event()

        async def answer(end: threading.Event = end) -> None:
            end.set()

        asking = threading.Timer(when, ask)
        asking.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            since = time.monotonic()
            assert await threads.run(end.wait, LONG_MS / 1000)
            assert time.monotonic() - since < LONG_MS / 2000
        asking.join()


async def test_who_waits_for_a_thread_has_a_turn(ask: Callable[[], int]) -> None:
    """The end of his work is no request, and would not end the wait of another."""
    end = threading.Event()

    async def answer() -> None:
        end.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        with loop.waiting():
            assert await threads.run(end.wait, LONG_MS / 1000)


async def test_more_work_than_places_is_all_done(ask: Callable[[], int]) -> None:
    done: list[int] = []
    count = 3 * threads._PLACES
    together = threading.Barrier(count)

    async def one(number: int) -> None:
        await threads.run(together.wait, 20)
        done.append(number)

    ask()
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
    assert sorted(done) == list(range(count))


async def test_work_is_not_left_before_it_ends(ask: Callable[[], int]) -> None:
    """What it uses (descriptors) is closed by who waits for it."""
    ended: list[bool] = []

    def work() -> None:
        time.sleep(0.05)
        ended.append(True)

    ask()
    with trio.CancelScope() as scope:
        scope.cancel()
        await threads.run(work)
    assert ended == [True]


async def test_all_others_have_a_turn_soon(ask: Callable[[], int]) -> None:
    """Regression: while one client synced again and again, signals waited for 64 such requests."""
    turns: list[str] = []

    async def other() -> None:
        turns.append("other")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(10):
            await threads.run(time.sleep, 0.002)
        turns.append("work")
    assert turns == ["other", "work"]
