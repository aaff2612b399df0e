"""The power fails in the middle of a copy-up: no file is ever short or empty.

The upper and the work directory are on a disk of their own, of which a copy is taken at the moment
of the cut; the layers are elsewhere. At each call that the daemon makes for a change, the journal
is made to be on the disk and the data of files not (the worst that a filesystem may do), and a copy
is taken. Our next mount on each shows the state before or after.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.support.crash_cases import CASES, chmod, overwrite, rename, unlink
from tests.support.crashes import differing, look, without_directory_times
from tests.support.disks import Disk
from tests.support.examples import FULL
from tests.support.files import opened, read
from tests.support.mounts import HelperMount, SessionMount, Spawner
from tests.support.points import Trap
from tests.support.stacks import PAST_NS, Layers
from tests.support.trees import Tree

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.needs_ptrace,
    pytest.mark.needs_loop,
]

Mount = Callable[[Layers], SessionMount]


@pytest.fixture
def disk(scratch: bytes) -> Iterator[Disk]:
    with Disk(scratch + b"/image", size=24 << 20) as disk:
        yield disk


@pytest.fixture
def layers(disk: Disk, lowers: tuple[bytes, ...]) -> Layers:
    upper, work = disk.root + b"/upper", disk.root + b"/work"
    os.mkdir(upper)
    os.mkdir(work)
    os.utime(upper, ns=(PAST_NS, PAST_NS))
    return Layers(lowers, upper, work)


class Rig:
    """The disk, the layers with the upper on it, and what a cut leaves of them."""

    def __init__(self, disk: Disk, layers: Layers, scratch: bytes, spawner: Spawner) -> None:
        self.disk, self.layers, self._scratch, self._spawner = disk, layers, scratch, spawner
        self._cuts = 0

    def mount(self) -> SessionMount:
        return SessionMount(self.layers, self._scratch + b"/ours", self._spawner)

    def cut(self) -> bytes:
        copy = self._scratch + b"/cut%d" % self._cuts
        self._cuts += 1
        self.disk.cut(copy)
        return copy

    def shown(self, copy: bytes) -> Tree:
        """Return what our mount shows of the disk *copy*, which is removed."""
        with Disk(copy, made=False) as disk:
            root = disk.root
            layers = replace(self.layers, upper=root + b"/upper", work=root + b"/work")
            with SessionMount(layers, self._scratch + b"/again", self._spawner) as mounted:
                seen = look(mounted.root)
        os.unlink(copy)
        return seen


@pytest.fixture
def rig(disk: Disk, layers: Layers, scratch: bytes, spawner: Spawner) -> Rig:
    return Rig(disk, layers, scratch, spawner)


SAMPLED = 1 if FULL else 3  # of so many cuts one is looked at
COPY_UPS = (
    "chmod a large file",
    "chmod a hard link",
    "rename a lower file",
    "link a lower file",
    "truncate",
    "set an attribute",
    "rename a merged directory",
)


@pytest.mark.parametrize("name", COPY_UPS)
def test_cut_at_every_call_of_a_copy_up(rig: Rig, name: str):
    change = CASES[name].when
    cuts: list[tuple[str, bytes]] = []
    with rig.mount() as mounted:
        before = look(mounted.root)
        rig.disk.commit()

        def cut(call) -> None:
            rig.disk.commit()
            cuts.append((call.name, rig.cut()))

        with Trap(mounted.pid, None, cut):
            change(mounted.root)
        after = look(mounted.root)
    assert len(cuts) > 5
    wrong = []
    for number, (call, copy) in list(enumerate(cuts))[COPY_UPS.index(name) % SAMPLED :: SAMPLED]:
        seen = without_directory_times(rig.shown(copy))
        old = differing(seen, without_directory_times(before), ())
        new = differing(seen, without_directory_times(after), ())
        if old and new:
            wrong += [f"{number}: {call}: not before: {old}; not after: {new}"]
    assert not wrong, "\n".join(wrong)


def test_a_cut_can_be_seen(rig: Rig, scratch: bytes):
    """With ``volatile`` nothing is synced, and the copy is short: this disk loses what it may."""
    target = scratch + b"/volatile"
    with HelperMount(rig.layers, target, options=(b"volatile",)) as mounted:
        chmod(b"dir/sub/deep", 0o600)(mounted.root)
        rig.disk.commit()
        copy = rig.cut()
    with Disk(copy, made=False) as disk:
        assert b"deep" not in read(disk.root + b"/upper/dir/sub/deep")


def _sync_dir(root: bytes) -> None:
    with opened(root, os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.fsync(fd)


def test_names_in_a_directory_that_was_synced(rig: Rig):
    """Made, removed, moved, and then fsync of the directory: as a mail server does it."""
    with rig.mount() as mounted:
        root = mounted.root
        os.mkdir(root + b"/dir/sub/made")
        for step in (unlink(b"dir/a"), overwrite(b"file", sync=True)):
            step(root)
        rename(b"file", b"dir/sub/moved")(root)
        for folder in (b"/dir/sub", b"/dir", b""):
            _sync_dir(root + folder)
        expected = look(root)
        copy = rig.cut()
    assert differing(rig.shown(copy), expected, ()) == []
