"""The power fails: what was synced is there, and a copied-up file is never short or empty.

The upper and the work directory are on a disk of their own, of which a copy is taken at the moment
of the cut; the layers are elsewhere. At each call that the daemon makes for a change, the journal
is made to be on the disk and the data of files not (the worst that a filesystem may do), and a copy
is taken. Our next mount on each shows the state before or after.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.support.crash_cases import CASES, Step, chmod, overwrite, rename, unlink
from tests.support.crashes import differing, look, without_directory_times
from tests.support.examples import FULL
from tests.support.files import opened, read
from tests.support.mounts import HelperMount, SessionMount, Spawner
from tests.support.points import Trap
from tests.support.power import Disk, after_power_cut
from tests.support.stacks import PAST_NS, Layers
from tests.support.trees import Tree

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

Mount = Callable[[Layers], SessionMount]


@pytest.fixture
def disk(scratch: bytes) -> Iterator[Disk]:
    with Disk(scratch) as disk:
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

    def shown(self, copy: bytes, look: Callable[[bytes], Tree] = look) -> Tree:
        """Return what our mount shows of the disk *copy*, which is removed."""
        root = self._scratch + b"/rebooted"
        layers = replace(self.layers, upper=root + b"/upper", work=root + b"/work")
        with (
            after_power_cut(copy, root),
            SessionMount(layers, self._scratch + b"/again", self._spawner) as mounted,
        ):
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
    root = scratch + b"/rebooted"
    with after_power_cut(copy, root):
        assert b"deep" not in read(root + b"/upper/dir/sub/deep")


def _synced(path: bytes, flags: int, data: bytes, sync: Callable[[int], None]) -> Step:
    def step(root: bytes) -> None:
        with opened(root + b"/" + path, flags) as fd:
            os.write(fd, data)
            sync(fd)

    return step


def _mapped(root: bytes) -> None:
    with opened(root + b"/file", os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
        mapped[:6] = b"MAPPED"
        mapped.flush()


def _sync_dir(root: bytes) -> None:
    with opened(root, os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.fsync(fd)


_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY
SYNCED: dict[str, tuple[Step, bytes, bytes]] = {
    "fsync of a new file": (_synced(b"dir/new", _NEW, b"NEW", os.fsync), b"dir/new", b"NEW"),
    "fsync of a lower file": (_synced(b"file", os.O_WRONLY, b"NEW", os.fsync), b"file", b"NEWe "),
    "fdatasync of a lower file": (
        _synced(b"file", os.O_WRONLY, b"NEW", os.fdatasync),
        b"file",
        b"NEWe ",
    ),
    "fdatasync of a lower file in a lower directory": (
        _synced(b"dir/sub/deep", os.O_WRONLY, b"NEW", os.fdatasync),
        b"dir/sub/deep",
        b"NEW\0\0",
    ),
    "fdatasync of a hard link": (
        _synced(b"hard/two", os.O_WRONLY, b"NEW", os.fdatasync),
        b"third",
        b"NEWd ",
    ),
    "O_DSYNC": (
        _synced(b"file", os.O_WRONLY | os.O_DSYNC, b"NEW", lambda fd: None),
        b"file",
        b"NEWe ",
    ),
    "msync": (_mapped, b"file", b"MAPPED"),
}


@pytest.mark.parametrize("name", SYNCED)
def test_what_was_synced_is_there(rig: Rig, name: str):
    step, path, expected = SYNCED[name]
    with rig.mount() as mounted:
        step(mounted.root)
        copy = rig.cut()
    seen: list[bytes] = []

    def peek(root: bytes) -> Tree:
        seen.append(read(root + b"/" + path)[: len(expected)])
        return look(root)

    rig.shown(copy, peek)
    assert seen == [expected]


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
