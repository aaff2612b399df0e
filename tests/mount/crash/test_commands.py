"""Every command that changes a store, killed with SIGKILL at each call that changes anything.

The database's own calls are among them. Whatever the call: what was there is whole, what was to
come is there whole or not at all, and the same command run again ends what was begun, with nothing
cleaned up by hand.
"""

from __future__ import annotations

import errno
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import kernel, points, trees
from tests.support.examples import FULL, TIMEOUT
from tests.support.points import Trap
from tests.support.ptrace import Call
from tests.support.runner import Done, Runner
from tests.support.shop import STORE_VERBS, Image, Shop, import_second, watch

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.needs_ptrace,
    pytest.mark.timeout(TIMEOUT),
]

POINTS = 100_000 if FULL else 4  # at most so many of a command's calls are tried
SETTLED = 20.0  # seconds for a daemon to tell or to leave


@pytest.fixture
def shop(tmp_path: Path, runner: Runner, images: dict[str, Image]) -> Shop:
    return Shop(tmp_path, runner, images)


def _tried(count: int) -> range:
    """Return the numbers of the calls to try, of *count*: all, or some from the whole length."""
    assert count > 2, "a command that changes something makes calls"
    step = max(1, count // POINTS)
    return range(count % step, count, step)


ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT)
ENDS: dict[str, Callable[[int], Callable[[Call], None]]] = {
    "killed": lambda number: points.kill,
    "failing": lambda number: points.failing(ERRORS[number % len(ERRORS)]),
}


def _ended_rightly(done: Done, how: str) -> bool:
    """Return whether a command was killed, or said in one line what failed (or knew a way)."""
    if how == "killed":
        return done.status == -9
    lines = done.said.splitlines()
    told = (
        len(lines) == 1 and lines[0].startswith("unionfs: error: ") and "internal" not in lines[0]
    )
    return done.status == 0 or (done.status == 1 and told)


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("verb", STORE_VERBS)
def test_ended_at_every_step(shop: Shop, verb: str, how: str):
    tried, act = STORE_VERBS[verb], ENDS[how]
    words = tried.words(shop)

    def begin() -> tuple[set[str], set[str]]:
        shop.fresh()
        tried.given(shop)
        return shop.images_and_containers()

    before = begin()
    count = shop.tried(None, *words)[0].count
    shop.collect()
    after, content = shop.images_and_containers(), shop.content()
    assert before != after
    for number in _tried(count):
        assert begin() == before
        trap, done = shop.tried(number, *words, act=act(number))
        assert trap.sprung is None or _ended_rightly(done, how), f"{trap}: {done}"
        there = shop.images_and_containers()
        assert there in (before, after), f"{trap}: {there}"
        assert done.status or there == after, f"{trap}: {done}"
        shop.intact()
        tried.again(shop)
        shop.intact()
        assert shop.images_and_containers() == after, f"{trap}"
        shop.collect()
        assert shop.content() == content, f"{trap}: something was left, or taken"


def test_making_a_store_killed_at_every_step(shop: Shop):
    def empty() -> None:
        subprocess.run(["rm", "-rf", "--", shop.root], check=True)

    empty()
    count = shop.tried(None, *import_second(shop))[0].count
    shop.collect()
    content = shop.content()
    for number in _tried(count):
        empty()
        trap, _ = shop.tried(number, *import_second(shop))
        shop.succeed(*import_second(shop))
        shop.intact()
        shop.collect()
        assert shop.content() == content, f"{trap}: something was left, or taken"


def _settled(pid: int) -> None:
    """Wait until the daemon *pid* has told its starter of the mount, or is gone."""
    end = time.monotonic() + SETTLED
    while time.monotonic() < end:
        try:
            if b"pipe:" not in os.readlink(b"/proc/%d/fd/3" % pid):
                return
        except OSError:
            return  # closed, or the process is gone
        time.sleep(0.002)
    raise AssertionError("the daemon neither tells nor leaves")


def _gone(pid: int) -> None:
    """Wait until the process *pid*, nobody's child that we know, has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], SETTLED)[0], "the daemon does not leave"
    finally:
        os.close(fd)


def _done_or_said(done: Done, finished: str) -> None:
    assert done.status == 0 or finished in done.said, done


@pytest.mark.parametrize("whose", ["command", "daemon"])
def test_mount_killed_at_every_step(shop: Shop, whose: str):
    child = whose == "daemon"
    shop.fresh()
    count = shop.tried(None, "mount", "old", child=child)[0].count
    merged = shop.container("old") / "merged"
    expected = trees.snapshot(os.fsencode(merged))
    shop.succeed("umount", "old")
    for number in _tried(count):
        shop.fresh()
        merged = shop.container("old") / "merged"
        trap, done = shop.tried(number, "mount", "old", child=child)
        if trap.child >= 0:
            (_gone if child and trap.sprung else _settled)(trap.child)
        assert done.status == (1 if child else -9) or trap.sprung is None, f"{trap}: {done}"
        shop.intact()
        _done_or_said(shop.run("mount", "old"), "already mounted")
        trees.assert_same(expected, trees.snapshot(os.fsencode(merged)), ("before", str(trap)))
        shop.succeed("umount", "old")
        assert kernel.mounted_at(os.fsencode(merged)) is None
        assert os.listdir(merged) == []


@pytest.mark.parametrize("whose", ["command", "daemon"])
def test_umount_killed_at_every_step(shop: Shop, whose: str):
    number: int | None = None
    tried: Iterator[int] = iter(())
    while True:
        shop.fresh()
        daemon = shop.tried(None, "mount", "old", child=True)[0].child
        merged = os.fsencode(shop.container("old") / "merged")
        os.unlink(merged + b"/d/low")
        expected = trees.snapshot(merged)
        if whose == "command":
            trap, _ = shop.tried(number, "umount", "old")
        else:
            with Trap(daemon, number, watch if number is None else points.kill) as trap:
                shop.succeed("umount", "old")
                _gone(daemon)
        if number is None:
            tried = iter(_tried(trap.count))
        _done_or_said(shop.run("umount", "old"), "is not mounted")
        _gone(daemon)
        assert kernel.mounted_at(merged) is None
        shop.succeed("mount", "old")
        trees.assert_same(expected, trees.snapshot(merged), ("before", str(trap)))
        shop.succeed("umount", "old")
        number = next(tried, None)
        if number is None:
            return
