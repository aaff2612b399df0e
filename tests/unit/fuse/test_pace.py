"""Small copies are waited for where the disk is quick, and left to threads where it is not."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pyfuse3
import pytest

from tests.unit.fuse.conftest import Build
from unionfs.fuse import state
from unionfs.fuse.measured import Measured
from unionfs.fuse.pace import _AFTER, _QUICK_NS, _SMALL, Pace
from unionfs.ondisk.flavour import Flavour
from unionfs.options import MountConfig
from unionfs.syscalls.copy import KeepGoing
from unionfs.upper.copyup import FileCopy


def test_small_ones_until_one_takes_long() -> None:
    pace = Pace()
    assert (pace.may_wait(1), pace.may_wait(_SMALL), pace.may_wait(_SMALL + 1)) == (1, 1, 0)
    pace.took(_SMALL, _QUICK_NS)
    assert pace.may_wait(_SMALL)
    assert not pace.is_slow
    pace.took(_SMALL, _QUICK_NS + 1)
    assert not pace.may_wait(1)
    assert pace.is_slow


def test_again_when_so_many_in_a_row_were_quick() -> None:
    pace = Pace()
    pace.took(1, _QUICK_NS + 1)
    for _ in range(_AFTER - 1):
        pace.took(1, 1)
    pace.took(1, _QUICK_NS + 1)
    for _ in range(_AFTER - 1):
        pace.took(1, 1)
        assert pace.is_slow
    pace.took(1, 1)
    assert pace.may_wait(1)
    pace.took(1, 1)
    assert pace.may_wait(1)


def test_large_ones_say_nothing_of_it() -> None:
    pace = Pace()
    pace.took(_SMALL + 1, 10 * _QUICK_NS)
    assert pace.may_wait(1)
    pace.took(1, _QUICK_NS + 1)
    for _ in range(_AFTER):
        pace.took(_SMALL + 1, 1)
    assert pace.is_slow


@pytest.mark.needs_root
@pytest.mark.trio
@pytest.mark.usefixtures("plain_mask")
async def test_who_waits_for_the_disk(
    lower: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first finds that it is slow, threads that it is quick again; `stats` says so."""
    monkeypatch.setattr(pyfuse3, "invalidate_inode", lambda *_args, **_kwargs: None)
    waited: list[bool] = []
    real, clock, took = FileCopy.copy, [0], [2 * _QUICK_NS] * 3
    monkeypatch.setattr(state, "time", SimpleNamespace(perf_counter_ns=lambda: clock[0]))

    def copy(self: FileCopy, keep_going: KeepGoing | None = None) -> None:
        waited.append(threading.current_thread() is threading.main_thread())
        clock[0] += took.pop() if took else 1
        real(self, keep_going)

    monkeypatch.setattr(FileCopy, "copy", copy)
    for number in range(_AFTER + 5):
        (lower / f"{number:02}").write_bytes(b"content")
    (lower / "large").write_bytes(b"l" * (_SMALL + 1))
    world = build()
    measured = Measured(world.ops, MountConfig((b"lower",)), Flavour.TRUSTED)
    slow = []
    for each in sorted(lower.iterdir()):
        node = world.ops.inodes[world.lookup(each.name.encode())]
        await world.ops.copy_up(node)
        assert world.read(each.name.encode()) == each.read_bytes()
        modes = {one["mode"]: one["because"] for one in measured.document()["modes"]}
        slow.append("the disk is slow" in modes["syncing"])
    assert waited == [True, *[False] * (2 + _AFTER), True, True, False]
    assert slow == [*[True] * (2 + _AFTER), *[False] * 4]
