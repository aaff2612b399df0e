"""The power fails in the middle of a command on a store, and right after it.

As ``test_power_cut``: at each call that changes anything, all names are on the disk and no data
that was not synced. After the next boot what the store lists is whole, byte for byte, and the
command run again ends what was begun. What a command said was done is done.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.disks import Disk
from tests.support.examples import FULL, TIMEOUT
from tests.support.ptrace import Call
from tests.support.runner import Runner
from tests.support.shop import STORE_VERBS, Image, Shop, Verb

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_ptrace,
    pytest.mark.needs_loop,
    pytest.mark.timeout(TIMEOUT),
]

CUTS = 100_000 if FULL else 4  # at most so many for a command


@pytest.fixture
def disk(scratch: bytes) -> Iterator[Disk]:
    with Disk(scratch + b"/image", size=24 << 20) as disk:
        yield disk


@pytest.fixture
def shop(disk: Disk, runner: Runner, images: dict[str, Image]) -> Shop:
    return Shop(Path(os.fsdecode(disk.root)), runner, images)


def _begin(shop: Shop, disk: Disk, verb: Verb) -> None:
    shop.fresh()
    verb.given(shop)
    disk.sync()


@contextmanager
def _rebooted(shop: Shop, copy: bytes) -> Iterator[None]:
    """Let *shop* be what the disk *copy* has, which is removed at the end."""
    here = shop.root
    with Disk(copy, made=False) as disk:
        shop.root = Path(os.fsdecode(disk.root)) / here.name
        try:
            yield
        finally:
            shop.root = here
    os.unlink(copy)


@pytest.mark.parametrize("name", STORE_VERBS)
def test_cut_in_a_command(shop: Shop, disk: Disk, scratch: bytes, name: str):
    verb = STORE_VERBS[name]
    _begin(shop, disk, verb)
    before = shop.images_and_containers()
    count = shop.tried(None, *verb.words(shop))[0].count
    after = shop.images_and_containers()
    wanted = set(range(count % 2, count, max(1, count // CUTS)))
    cuts: list[tuple[str, bytes]] = []
    seen = 0

    def cut(call: Call) -> None:
        nonlocal seen
        if seen in wanted:
            disk.commit()
            cuts.append((f"{seen}: {call.name}", scratch + b"/cut%d" % seen))
            disk.cut(cuts[-1][1])
        seen += 1

    _begin(shop, disk, verb)
    shop.tried(None, *verb.words(shop), act=cut)
    disk.cut(scratch + b"/last")
    for where, copy in cuts:
        with _rebooted(shop, copy):
            there = shop.images_and_containers()
            assert there in (before, after), f"{where}: {there}"
            shop.intact()
            verb.again(shop)
            shop.intact()
            assert shop.images_and_containers() == after, where
    with _rebooted(shop, scratch + b"/last"):
        assert shop.images_and_containers() == after, "done, and lost"
        shop.intact()
