"""commit --rebase of a mounted container, cut short at each call that changes anything.

Killed or told of an error, the command leaves a mount that goes on with what it showed, and a
container that is wholly of the old image or wholly of the new one. So does its daemon, but that a
killed one's mount is to be made again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mount.crash.test_commands import ENDS, _gone, _tried
from tests.support import points, trees
from tests.support.engines import soon
from tests.support.examples import TIMEOUT
from tests.support.points import Counts, Trap
from tests.support.ptrace import Call
from tests.support.runner import Done, Runner
from tests.support.shop import Image, Shop, watch

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.needs_ptrace,
    pytest.mark.timeout(TIMEOUT),
]

LONG_AGO = 1_600_000_000
HOME = ["log", "merged", "mount.lock", "upper", "work"]
WORDS = ("commit", "old", "committed", "--rebase")


@pytest.fixture
def shop(tmp_path: Path, runner: Runner, images: dict[str, Image]) -> Iterator[Shop]:
    shop = Shop(tmp_path, runner, images)
    yield shop
    shop.run("umount", "old")  # where a test ended early


class Trial:
    """A container, mounted and in use, whose rebase meets *act* at its call *number*."""

    def __init__(self, shop: Shop) -> None:
        shop.fresh()
        self._shop = shop
        self.daemon = shop.tried(None, "mount", "old", child=True)[0].child
        self.home = shop.container("old")
        self.root = os.fsencode(self.home / "merged")
        self._age()
        self.before = self._seen()
        self._open = os.open(self.root + b"/made/file", os.O_RDONLY)

    def of_command(self, number: int | None, act: Callable[[Call], None]) -> tuple[Trap, Done]:
        return self._shop.tried(number, *WORDS, act=act)

    def of_daemon(
        self, number: int | None, act: Callable[[Call], None], counts: Counts
    ) -> tuple[Trap, Done]:
        with Trap(self.daemon, number, act, counts=counts) as trap:
            done = self._shop.run(*WORDS)
        return trap, done

    def goes_on(self, why: str) -> None:
        """Check that the mount shows what it showed, and takes changes."""
        trees.assert_same(self.before, self._seen(), ("before", why))
        assert os.pread(self._open, 10, 0) == b"made", why
        with open(self.root + b"/d/low", "ab") as file:
            file.write(b" later")
        with open(self.root + b"/made/file", "rb") as file:
            assert file.read() == b"made", why
        self._move()

    def ends_well(self, why: str, *, died: bool) -> None:
        """Check the container, mounted anew, and then rebased."""
        os.close(self._open)
        shop = self._shop
        if died:
            _gone(self.daemon)
            shop.succeed("mount", "old")
            trees.assert_same(self.before, self._seen(), ("before", why))
            self._move()
        wanted = self._seen()
        shop.succeed("umount", "old")
        assert soon(lambda: sorted(os.listdir(self.home)) == HOME), why  # the daemon is leaving
        assert "no faults" in shop.succeed("check"), why
        shop.succeed("mount", "old")
        trees.assert_same(wanted, self._seen(), ("before", why))
        shop.succeed("commit", "old", "again", "--rebase")
        trees.assert_same(wanted, self._seen(), ("before", why))
        assert shop.succeed("diff", "old") == ""
        shop.succeed("umount", "old")

    def _move(self) -> None:
        os.rename(self.root + b"/made", self.root + b"/moved")
        self._age()

    def _age(self) -> None:
        """Let everything be older than the runner's SOURCE_DATE_EPOCH, to which times are cut."""
        for folder, _, files in os.walk(self.root, topdown=False):
            for name in (*files, b"."):
                os.utime(os.path.join(folder, name), (LONG_AGO, LONG_AGO), follow_symlinks=False)

    def _seen(self) -> trees.Tree:
        return trees.snapshot(self.root)


@pytest.mark.parametrize("how", ENDS)
def test_the_command(shop: Shop, how: str):
    trial = Trial(shop)
    trap, done = trial.of_command(None, watch)
    assert done.status == 0, done
    count = trap.count
    trial.goes_on("whole")
    trial.ends_well("whole", died=False)
    for number in _tried(count):
        trial = Trial(shop)
        trap, done = trial.of_command(number, ENDS[how](number))
        assert how == "failing" or done.status == -signal.SIGKILL or trap.sprung is None
        trial.goes_on(str(trap))
        trial.ends_well(str(trap), died=False)


def _changes_the_disk(call: Call) -> bool:
    return points.changes(call) and points.touches(call)


@pytest.mark.parametrize("how", ENDS)
def test_the_daemon(shop: Shop, how: str):
    # The kernel takes every answer; a disk does not.
    counts = points.changes if how == "killed" else _changes_the_disk
    trial = Trial(shop)
    trap, done = trial.of_daemon(None, watch, counts)
    assert done.status == 0, done
    count = trap.count
    trial.ends_well("whole", died=False)
    for number in _tried(count):
        trial = Trial(shop)
        trap, done = trial.of_daemon(number, ENDS[how](number), counts)
        assert done.status in (0, 1), f"{trap}: {done}"
        died = how == "killed" and trap.sprung is not None
        if not died:
            trial.goes_on(str(trap))
        trial.ends_well(str(trap), died=died)
