"""The wait for the next request: it never leads into a read that has nothing to read."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import ClassVar

import pyfuse3
import pytest

from tests.support.worlds import run
from unionfs.fuse import loop, native
from unionfs.fuse.session import Session


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_a_request_that_another_task_read_is_waited_for_again(monkeypatch, pipe):
    """Woken for a request, a task may come second: a blocking read would stop the whole mount."""
    reader, writer = pipe
    woken = []

    async def wait() -> bool:
        woken.append(len(woken))
        if len(woken) == 3:  # the first two were read by others
            os.write(writer, b"request")
        return True

    monkeypatch.setattr(pyfuse3, "_wait_fuse_readable", wait)
    loop.install(reader)
    assert run(pyfuse3._wait_fuse_readable()) is True
    assert len(woken) == 3
    assert run(pyfuse3._wait_fuse_readable()) is True  # there is one: no trip through the scheduler
    assert len(woken) == 3


def test_the_end_of_the_session_ends_the_wait(monkeypatch, pipe):
    async def wait() -> bool:
        return False

    monkeypatch.setattr(pyfuse3, "_wait_fuse_readable", wait)
    loop.install(pipe[0])
    assert run(pyfuse3._wait_fuse_readable()) is False


def test_reads_do_not_nap_while_a_task_waits_for_a_thread(monkeypatch, pipe):
    class Hooks:
        limits: ClassVar[list[int]] = []

        def set_spin(self, limit: int) -> None:
            assert limit == 0

        def set_nap(self, limit: int) -> None:
            self.limits.append(limit)

        def misses(self) -> int:
            return 0

    async def wait() -> bool:
        return True

    monkeypatch.setattr(pyfuse3, "_wait_fuse_readable", wait)
    monkeypatch.setattr(native, "hooks", Hooks())
    monkeypatch.setattr(loop, "_set_nap", loop._without_naps)
    loop.install_hooked(pipe[0], spin=0)
    assert Hooks.limits.pop() > 0
    with loop.waiting():
        assert Hooks.limits[-1] == 0
        with loop.waiting():
            pass
        assert set(Hooks.limits) == {0}
    assert Hooks.limits[-1] > 0


@pytest.mark.parametrize(
    ("error", "ends"), [(ConnectionAbortedError(), True), (OSError(errno.EIO, "no"), False)]
)
def test_an_aborted_connection_is_the_end_of_the_mount(monkeypatch, error, ends):
    """Not a failure of the daemon's, as any other error of the device is."""

    async def main(max_tasks: int) -> None:
        raise ExceptionGroup("pyfuse3's tasks", [error])

    monkeypatch.setattr(pyfuse3, "main", main)
    session = object.__new__(Session)
    if ends:
        run(session.serve())
    else:
        with pytest.raises(ExceptionGroup):
            run(session.serve())
