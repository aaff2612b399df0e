"""A full disk under a mapping: the copy-up that its pages need fails when they are written back.

(Without the extension, and with ``record``, a file of a layer is copied up when it is opened for
writing, which then fails.)
"""

from __future__ import annotations

import errno
import mmap
import os
import signal

import pytest

from tests.support import kernel, trees
from tests.support.files import opened, read, refused, write
from tests.support.stacks import File, Layers, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

LOW = 3 << 20  # bytes of the lower file; the upper's disk holds 2 MiB
PAGE = mmap.PAGESIZE


@pytest.fixture
def layers(scratch):
    """Layers whose upper and work are on a filesystem of 2 MiB."""
    files = [File(b"big", b"low ", LOW), File(b"d/small", b"low ", 100_000)]
    lowers = build_stack(scratch + b"/s", [files], writable=False).lowers
    disk = scratch + b"/disk"
    os.mkdir(disk)
    kernel.mount(b"small", disk, b"tmpfs", 0, b"size=2m")
    os.mkdir(disk + b"/upper")
    os.mkdir(disk + b"/work")
    yield Layers(lowers, disk + b"/upper", disk + b"/work")
    kernel.umount(disk)


@pytest.fixture
def mounted(layers, union):
    return union(layers)


@pytest.fixture
def root(mounted):
    return mounted.root


def _fill(folder: bytes) -> None:
    with opened(folder + b"/filler", os.O_WRONLY | os.O_CREAT) as fd, refused(errno.ENOSPC):
        while True:
            os.write(fd, bytes(4096))


@pytest.mark.needs_extension
def test_pages_of_a_file_that_cannot_be_copied_up(root, layers):
    """msync and fsync say so; the layer's bytes are there again, whole, and nothing half-made."""
    before = trees.snapshot(root)
    with opened(root + b"/big", os.O_RDWR) as fd, mmap.mmap(fd, LOW) as mapping:
        for at in range(0, LOW, 10 * PAGE):
            mapping[at] = 1
        with refused(errno.ENOSPC):
            mapping.flush()
        assert os.fstat(fd).st_size == LOW
        mapping[5] = 2
        with refused(errno.ENOSPC):
            os.fsync(fd)
        mapping.close()
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(fd, LOW, 0) == b"low " * (LOW // 4)
    trees.assert_same(before, trees.snapshot(root), ("before", "after"))
    assert os.listdir(layers.upper) == []
    assert os.listdir(layers.work + b"/work") == []


@pytest.mark.needs_extension
def test_the_same_pages_when_there_is_room(root, layers, union):
    """What failed once works when something was removed, by the same descriptor and mapping."""
    path = root + b"/d/small"
    _fill(root)
    with opened(path, os.O_RDWR) as fd, mmap.mmap(fd, 100_000) as mapping:
        mapping[5:10] = b"fresh"
        with refused(errno.ENOSPC):
            mapping.flush()
        with refused(errno.ENOSPC):
            os.pwrite(fd, b"x", 0)
        os.unlink(root + b"/filler")
        mapping[5:10] = b"fresh"
        mapping[50_000:50_005] = b"fresh"
        mapping.flush()
        os.pwrite(fd, b"X", 0)
        assert mapping[:10] == b"Xow lfresh"
    expected = bytearray(b"low " * 25_000)
    expected[:10], expected[50_000:50_005] = b"Xow lfresh", b"fresh"
    assert read(path) == expected
    assert read(layers.upper + b"/d/small") == expected


def test_pages_for_a_hole_that_no_room_is_left_for(root):
    """What is there stays, through the mapping and beside it."""
    path = root + b"/sparse"
    with opened(path, os.O_RDWR | os.O_CREAT) as fd:
        os.pwrite(fd, b"there", 0)
        os.ftruncate(fd, LOW)
        with mmap.mmap(fd, LOW) as mapping:
            mapping[::PAGE] = b"X" * (LOW // PAGE)
            with refused(errno.ENOSPC):
                mapping.flush()
    write(root + b"/sparse", b"small again")
    assert read(path) == b"small again"


@pytest.mark.parametrize("how", ["append", "direct", "truncate", "range"])
def test_every_way_to_write(root, layers, how):
    """ENOSPC to the caller, and the layer's bytes for every opener."""
    path = root + b"/big"
    with opened(path, os.O_RDONLY) as before, refused(errno.ENOSPC):
        if how == "append":
            with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
                os.write(fd, b"x")
        elif how == "direct":
            with opened(path, os.O_WRONLY | os.O_DIRECT) as fd, mmap.mmap(-1, PAGE) as page:
                os.pwritev(fd, [page], PAGE)
        elif how == "truncate":
            os.truncate(path, LOW - 1)
        else:
            with opened(path, os.O_RDWR) as fd:
                os.copy_file_range(before, fd, PAGE, 0, 2 * PAGE)
    assert read(path) == b"low " * (LOW // 4)
    assert os.listdir(layers.upper) == []


WAYS = {
    "copy-up": (b"/d/small", lambda fd: os.pwrite(fd, b"x", 0)),
    "write": (b"/made", lambda fd: os.pwrite(fd, bytes(100_000), 0)),
    "write past the cache": (b"/made", lambda fd: os.pwritev(fd, [mmap.mmap(-1, 32 * PAGE)], 0)),
    "copy": (b"/made", lambda fd: os.copy_file_range(fd, fd, PAGE, 0, 50 * PAGE)),
    "fallocate": (b"/made", lambda fd: kernel.fallocate(fd, 0, 0, 100_000)),
}


def _waits(pid: int) -> bool:
    """Return whether the process *pid* waits for an answer (or has ended)."""
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] in "SDZ"


@pytest.mark.needs_extension
@pytest.mark.parametrize("way", WAYS)
def test_room_that_a_removed_file_gave_back_is_there_at_once(mounted, way):
    """close(2) of a removed file returns before the daemon hears of it, which has it open too.

    Its word is in the queue, perhaps behind the next request, which must not fail for that.
    """
    root = mounted.root
    write(root + b"/made", bytes(PAGE))
    name, change = WAYS[way]
    direct = os.O_DIRECT if "past" in way else 0
    target = os.open(root + name, os.O_RDWR | os.O_CLOEXEC | direct)
    _fill(root)
    fd = os.open(root + b"/filler", os.O_RDONLY | os.O_CLOEXEC)
    os.unlink(root + b"/filler")
    os.stat(root + b"/d/small")  # the next request is the one that needs room
    os.kill(mounted.pid, signal.SIGSTOP)
    try:
        os.close(fd)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                change(target)
                status = 0
            except OSError as error:
                status = error.errno
            finally:
                os._exit(status)
        while not _waits(pid):
            pass
    finally:
        os.kill(mounted.pid, signal.SIGCONT)
        os.close(target)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
