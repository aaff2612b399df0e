"""Files of a directory that are read in an order: the next ones are asked of the disk ahead."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

import pytest

from tests.support import kernel
from tests.support.disks import Disk
from tests.support.extension import stats
from tests.support.files import opened, read
from tests.support.stacks import File, Layers, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_extension]

MANY = 60
NAMES = [b"%d" % (number * 7919 % 1000) for number in range(MANY)]


@pytest.fixture
def layers(disk: Disk) -> Layers:
    """Files in one layer, on a disk and not in the page cache."""
    made = build_stack(
        disk.root + b"/s",
        [[File(b"other")], [*(File(b"dir/" + name, name, 9000) for name in NAMES)]],
    )
    push_out(made.lowers[0])
    return made


def push_out(layer: bytes) -> None:
    """Have no content of *layer* in the page cache."""
    for folder, _, names in os.walk(layer):
        for name in names:
            with opened(folder + b"/" + name, os.O_RDONLY) as fd:
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def by_number(directory: bytes) -> list[bytes]:
    return [one.name for one in sorted(os.scandir(directory), key=lambda one: one.inode())]


def shuffled(directory: bytes) -> list[bytes]:
    return random.Random(1).sample(os.listdir(directory), MANY)


def read_all(root: bytes, order: Callable[[bytes], list[bytes]]) -> dict[str, int]:
    """Read all files in *order* and return how many were asked for ahead, and how many rightly."""
    for name in order(root + b"/dir"):
        data = read(root + b"/dir/" + name)
        assert data == (name * 9000)[:9000]
    found = stats(root)["files_ahead"]
    assert isinstance(found, dict)
    return found


@pytest.mark.default_mode
@pytest.mark.parametrize("indexed", [False, True], ids=["layers", "index"])
@pytest.mark.parametrize(
    "order",
    [os.listdir, by_number, lambda directory: sorted(os.listdir(directory))],
    ids=["listed", "by number", "by name"],
)
def test_an_order_is_seen_and_gone_by(layers, union, order, indexed):
    found = read_all(union(layers, indexed=indexed).root, order)
    assert found["asked"] > MANY / 2
    assert found["foreseen"] > MANY / 2


@pytest.mark.parametrize("indexed", [False, True], ids=["layers", "index"])
def test_without_an_order_nothing_is_asked_for(layers, union, indexed):
    found = read_all(union(layers, indexed=indexed).root, shuffled)
    assert found["asked"] < MANY / 10


def test_it_can_be_turned_off(layers, union):
    found = read_all(union(layers, options=[b"readahead=off"]).root, os.listdir)
    assert found == {"asked": 0, "foreseen": 0}


@pytest.mark.default_mode
def test_who_only_lists_has_soon_nothing_asked_for(disk, union):
    files = [File(b"read/%d" % number, size=9000) for number in range(20)]
    files += [File(b"dirs/%02d/%d" % (place // 10, place % 10), size=9) for place in range(600)]
    layers = build_stack(disk.root + b"/s", [[File(b"other")], files])
    push_out(layers.lowers[0])
    root = union(layers).root
    for name in os.listdir(root + b"/read"):
        read(root + b"/read/" + name)
    before = stats(root)["files_ahead"]["asked"]
    assert before > 5
    assert sum(len(names) for _, _, names in os.walk(root + b"/dirs")) == 600
    assert stats(root)["files_ahead"]["asked"] - before < 200


@pytest.mark.default_mode
def test_what_is_in_the_cache_is_soon_not_asked_for(layers, union):
    root = union(layers).root
    for name in NAMES:
        read(layers.lowers[0] + b"/dir/" + name)
    found = read_all(root, os.listdir)
    assert found["asked"] == 0
    assert 0 < found["foreseen"] < MANY / 2


@pytest.mark.default_mode
def test_a_file_that_is_asked_for_only_keeps_its_access_time(layers, union):
    folder = layers.lowers[0] + b"/dir/"
    for name in NAMES:
        os.utime(folder + name, ns=(1, 1))
    root = union(layers).root
    for name in os.listdir(root + b"/dir")[: MANY // 2]:
        read(root + b"/dir/" + name)
    assert stats(root)["files_ahead"]["asked"] > MANY / 4
    assert sum(os.stat(folder + name).st_atime_ns == 1 for name in NAMES) >= MANY / 2


@pytest.fixture
def memory(scratch: bytes) -> Iterator[bytes]:
    """A tmpfs."""
    folder = scratch + b"/memory"
    os.mkdir(folder)
    kernel.mount(b"memory", folder, b"tmpfs")
    yield folder
    kernel.umount(folder)


@pytest.mark.default_mode
def test_a_filesystem_that_cannot_say_what_is_cached_is_left_alone(memory, union):
    files = [File(b"dir/%d" % number, size=9) for number in range(200)]
    root = union(build_stack(memory + b"/s", [[File(b"other")], files])).root
    for name in os.listdir(root + b"/dir"):
        read(root + b"/dir/" + name)
    assert stats(root)["files_ahead"] == {"asked": 0, "foreseen": 0}
