"""Fixtures for tests that mount; a directory's conftest.py imports the ones it wants."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support import kernel, leftovers
from tests.support.arena import make_arena
from tests.support.disks import Disk
from tests.support.mounts import (
    OURS,
    PROGRAM,
    HelperMount,
    KernelOverlay,
    Mounted,
    SessionMount,
    Spawner,
    Spawners,
)
from tests.support.stacks import IN_NAMESPACE, Layers

# Of a module that compares with the kernel's overlayfs, too, where that takes all that we write:
# not in a user namespace.
COMPARED = [] if IN_NAMESPACE else [pytest.mark.needs_kernel_overlay]


def compared(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a *test* that mounts ``again`` what it wrote: see COMPARED."""
    for mark in COMPARED:
        test = mark(test)
    return test


@pytest.fixture(scope="session")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bytes]:
    """A directory that every user may enter, in mounts that only we see; tmpfs if possible."""
    if not leftovers.in_own_namespace():
        kernel.own_mount_namespace()
    folder = os.fsencode(tmp_path_factory.mktemp("arena"))
    at = folder
    while at not in (b"/", b"/tmp"):
        if not os.stat(at).st_mode & 0o001:
            os.chmod(at, os.stat(at).st_mode & 0o7777 | 0o011)
        at = os.path.dirname(at)
    mounted = make_arena(folder)
    yield folder
    if mounted:
        kernel.umount(folder, kernel.MNT_DETACH | kernel.UMOUNT_NOFOLLOW)  # a test may hold a file


@pytest.fixture
def scratch(arena: bytes, request: pytest.FixtureRequest) -> Iterator[bytes]:
    """A new directory for one test; gone afterwards."""
    number = len(os.listdir(arena))
    folder = arena + b"/t%d" % number
    while os.path.exists(folder):
        number += 1
        folder = arena + b"/t%d" % number
    os.mkdir(folder)
    os.chmod(folder, 0o755)
    yield folder
    subprocess.run(["rm", "-rf", "--", folder], check=True)  # any depth


@pytest.fixture(scope="session")
def spawners(arena: bytes) -> Iterator[Spawners]:
    """The parents of daemons; after the arena, whose mounts they have to see."""
    made = Spawners()
    yield made
    made.close()


@pytest.fixture
def union(scratch: bytes, spawners: Spawners) -> Iterator[Callable[..., Mounted]]:
    """Mount layers; unmounted, and the daemon's log judged, at the end.

    By a fork, and by the mount program itself where a test wants more than options of it.
    """
    with ExitStack() as stack:
        count = iter(range(1000))

        def mount(layers: Layers, **how: Any) -> Mounted:
            target = scratch + b"/union%d" % next(count)
            if PROGRAM != OURS or how.keys() - {"options", "descriptors", "indexed"}:
                return stack.enter_context(HelperMount(layers, target, **how))
            return stack.enter_context(SessionMount(layers, target, spawners.chosen(), **how))

        yield mount


@pytest.fixture
def overlay(scratch: bytes) -> Iterator[Callable[[Layers], KernelOverlay]]:
    """Mount layers with the kernel's overlayfs."""
    with ExitStack() as stack:
        count = iter(range(1000))

        def mount(layers: Layers) -> KernelOverlay:
            return stack.enter_context(KernelOverlay(layers, scratch + b"/overlay%d" % next(count)))

        yield mount


@pytest.fixture
def again(request: pytest.FixtureRequest) -> Callable[[Layers], Mounted]:
    """Mount once more: by the kernel's overlayfs, where that takes all that we write."""
    return request.getfixturevalue("union" if IN_NAMESPACE else "overlay")


@pytest.fixture(scope="session")
def mount_union(arena: bytes) -> Iterator[Callable[[Layers, bytes], Mounted]]:
    """Mount layers in the fastest way there is, for tests that mount hundreds of times."""
    if PROGRAM != OURS:
        yield KernelOverlay if PROGRAM == ["kernel"] else HelperMount
        return
    spawner = Spawner()
    yield lambda layers, target: SessionMount(layers, target, spawner)
    spawner.close()


@pytest.fixture
def disks() -> Iterator[ExitStack]:
    """What ends after the unions do: the disks that they are on."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def disk(scratch: bytes, disks: ExitStack) -> Disk:
    return disks.enter_context(Disk(scratch + b"/image"))


@pytest.fixture
def left(disk: Disk, disks: ExitStack, scratch: bytes) -> Callable[[Layers], Layers]:
    """Return what is left of layers, upper and work on the disk if the power goes now."""

    def left(layers: Layers) -> Layers:
        copy = disks.enter_context(disk.after_power_loss(scratch + b"/copy"))

        def moved(path: bytes) -> bytes:
            return path.replace(disk.root, copy.root)

        assert layers.upper is not None
        assert layers.work is not None
        lowers = tuple(map(moved, layers.lowers))
        return Layers(lowers, moved(layers.upper), moved(layers.work))

    return left
