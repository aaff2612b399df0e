"""Many mounts at once on one machine: each answers, is written to, takes little and leaves.

The figures that it prints (``pytest -s``): the time until all are mounted, the memory that is each
daemon's (its proportional share of what it shares), and how long one outlived its mount.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.command import Cli
from tests.support.examples import FULL
from tests.support.leftovers import fuse_mounts
from unionfs.daemon import client
from unionfs.store.store import Store

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

MANY = 100 if FULL else 30
CALLERS = 6  # so many at a time ask for a mount, each in a process of its own
SOON = 1.0 if FULL else 10.0  # seconds that a daemon may outlive its mount; 1 on a quiet machine
MOST = 48 << 20  # bytes of memory that one may take


class Box(NamedTuple):
    """A container and where it is mounted."""

    name: str
    point: Path
    upper: Path


@pytest.fixture
def boxes(cli: Cli) -> Iterator[Sequence[Box]]:
    """Containers of one image, not mounted yet."""
    with Store.open(str(cli.root)) as store:
        image = store.images.resolve("tiny")
        made = [store.containers.create(image, f"box{number}") for number in range(MANY)]
    homes = [(one.name, cli.root / "containers" / one.id) for one in made]
    yield [Box(name, home / "merged", home / "upper") for name, home in homes]
    cli.run("rm", "--force", *(name for name, _ in homes))


def mount_all(cli: Cli, boxes: Sequence[Box], env: dict[str, str]) -> float:
    """Mount them, several at a time; return the seconds until the last one answers."""
    begin = time.monotonic()

    def mount(box: Box) -> str:
        return cli("mount", box.name, env=env)

    with ThreadPoolExecutor(CALLERS) as callers:
        assert list(callers.map(mount, boxes)) == [f"{box.point}\n" for box in boxes]
    return time.monotonic() - begin


def daemons() -> dict[Path, int]:
    """Return which process has which upper directory open."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{name}/fd"):
                found[Path(os.readlink(f"/proc/{name}/fd/{fd}"))] = int(name)
        except OSError:
            continue  # it ended
    return found


def memory(pid: int) -> int:
    """Return the bytes of a process's proportional set size."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def outlives(box: Box, pid: int) -> float:
    """Unmount; return the seconds until the daemon is gone."""
    begin = time.monotonic()
    client.unmount(os.fsencode(box.point))
    assert client.wait_gone(pid, SOON), f"the daemon of {box.name} is still there"
    return time.monotonic() - begin


@pytest.mark.parametrize("resident", [False, True], ids=["alone", "with serve"])
def test_each_is_a_mount_of_its_own(
    cli: Cli, boxes: Sequence[Box], resident: bool, request: pytest.FixtureRequest
) -> None:
    env = cli.env
    if resident:
        env = {**env, "UNIONFS_SERVE": request.getfixturevalue("asking")["UNIONFS_SERVE"]}
    took = mount_all(cli, boxes, env)
    found = daemons()
    pids = [found[box.upper] for box in boxes]
    assert len(set(pids)) == MANY
    idle = [memory(pid) for pid in pids]
    for box in boxes:
        (box.point / "etc" / "name").write_text(box.name)
    for box in boxes:
        assert (box.point / "etc" / "name").read_text() == box.name
        assert os.listdir(box.upper / "etc") == ["name"]
    left = [outlives(box, pid) for box, pid in zip(boxes, pids, strict=True)]
    assert fuse_mounts(os.fsencode(cli.root)) == []
    low, mean, high = (f"{x / 2**20:.1f}" for x in (min(idle), statistics.mean(idle), max(idle)))
    print(f"\n{MANY} mounts in {took:.1f} s; PSS {mean} MiB ({low} to {high});", end=" ")
    print(f"gone {max(left) * 1000:.0f} ms after the unmount at most")
    assert max(idle) < MOST
