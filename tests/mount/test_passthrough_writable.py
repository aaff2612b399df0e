"""`data=passthrough` in a mount that can be written: the kernel has the upper's files by itself."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.mount.test_passthrough import PASSES, PASSING, are_closed, stopped
from tests.support import trees
from tests.support.files import as_user, opened, read, write
from tests.support.fixtures import disk, disks, left  # noqa: F401
from tests.support.mounts import KernelOverlay, MountFailed, SessionMount
from tests.support.stacks import Dir, File, Layers, build_stack

pytestmark = PASSES

SIZE = 300_000
OLD = (b"old " * SIZE)[:SIZE]
PAGE = mmap.PAGESIZE
OTHER = 1234


@pytest.fixture
def layers(scratch: bytes) -> Layers:
    below = [Dir(b"d"), File(b"d/f", b"old ", SIZE, 0o666), File(b"d/g", b"old ", SIZE, 0o666)]
    return build_stack(scratch + b"/s", [below])


@pytest.fixture
def mounted(layers, union) -> Iterator[SessionMount]:
    """A mount whose daemon has no file open when nobody else has."""
    made = union(layers, options=PASSING)
    yield made
    if os.path.exists(f"/proc/{made.pid}"):
        assert are_closed(made.pid)


@pytest.fixture
def new(mounted) -> bytes:
    """A file of the upper, closed again."""
    path = mounted.root + b"/d/new"
    write(path, OLD)
    os.chmod(path, 0o666)
    return path


def _is_passed(pid: int, fd: int) -> bool:
    """Return whether *fd* can be read while the daemon *pid* answers nothing."""
    with ThreadPoolExecutor() as threads, stopped(pid):
        reading = threads.submit(os.pread, fd, 9, 0)
        try:
            reading.result(timeout=0.5)
            return True
        except TimeoutError:
            return False


def _drop_pages(fd: int) -> None:
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def test_the_daemon_is_asked_for_nothing(mounted):
    path = mounted.root + b"/d/new"
    with opened(path, os.O_RDWR | os.O_CREAT) as fd:
        os.ftruncate(fd, PAGE)
        with mmap.mmap(fd, PAGE) as memory:
            os.write(fd, b"x")  # the first asks whether the file has capabilities to lose
            with stopped(mounted.pid):
                for number in range(50):
                    assert os.pwrite(fd, b"%-4096d" % number, number * 4096) == 4096
                assert os.pread(fd, 2, 49 * 4096) == b"49"
                memory[:4] = b"mapp"
                assert os.pread(fd, 4, 0) == b"mapp"
        assert os.fstat(fd).st_size == os.stat(path).st_size == 50 * 4096
    assert read(path)[:4] == b"mapp" and os.stat(path).st_size == 50 * 4096


def test_a_file_of_a_layer_is_passed_once_it_is_copied(mounted):
    path = mounted.root + b"/d/f"
    with opened(path, os.O_RDONLY) as fd:
        _drop_pages(fd)
        assert not _is_passed(mounted.pid, fd)
    with opened(path, os.O_RDWR) as fd:
        os.pwrite(fd, b"NEW", 0)
        assert _is_passed(mounted.pid, fd)
    with opened(path, os.O_RDONLY) as fd:
        assert _is_passed(mounted.pid, fd) and os.read(fd, 4) == b"NEW "


def test_who_had_it_open_before_the_copy_sees_what_is_written(mounted):
    """He keeps the page cache, and with him everybody until the last has closed the file."""
    path = mounted.root + b"/d/f"
    with (
        opened(path, os.O_RDONLY) as early,
        mmap.mmap(early, 0, prot=mmap.PROT_READ) as memory,
    ):
        assert memory[:4] == b"old "
        for number in range(20):
            with opened(path, os.O_RDWR) as fd:
                os.pwrite(fd, b"%04d" % number, 0)
            assert os.pread(early, 4, 0) == memory[:4] == read(path)[:4] == b"%04d" % number
    assert read(path) == b"0019" + OLD[4:]


def test_pages_from_before_are_not_shown_afterwards(mounted):
    """Cached, then written by the kernel itself, then cached again: as a set-id file is."""
    path = mounted.root + b"/d/f"
    assert read(path) == OLD
    for number in range(5):
        with opened(path, os.O_WRONLY) as fd:
            os.pwrite(fd, b"%04d" % number, 0)
        assert are_closed(mounted.pid)
        os.chmod(path, 0o4755)
        assert read(path)[:8] == b"%04dold " % number
        assert are_closed(mounted.pid)
        os.chmod(path, 0o755)


def test_attributes_are_those_of_now(mounted, new):
    with opened(new, os.O_RDWR | os.O_APPEND) as fd:
        for number in range(1, 30):
            os.write(fd, b"more")
            assert os.stat(new).st_size == os.fstat(fd).st_size == SIZE + 4 * number
            assert os.lseek(fd, 0, os.SEEK_END) == SIZE + 4 * number
        before = os.stat(new)
        time.sleep(0.02)
        os.write(fd, b"more")
        assert os.stat(new).st_mtime_ns > before.st_mtime_ns


@pytest.mark.parametrize("when", ["mapped", "unmapped", "closed"])
def test_writing_through_a_map_changes_the_time(mounted, new, when):
    os.utime(new, (1, 1))
    assert os.stat(new).st_mtime == 1
    fd = os.open(new, os.O_RDWR)
    memory = mmap.mmap(fd, 0)
    memory[:3] = b"map"
    if when != "mapped":
        memory.flush()
        memory.close()
    if when == "closed":
        os.close(fd)
    assert os.stat(new).st_mtime > 1
    if when != "closed":
        memory.close()
        os.close(fd)
    assert read(new)[:3] == b"map"


def test_two_names_are_one_file(mounted, new):
    os.link(new, new + b"2")
    with opened(new, os.O_RDWR) as fd, opened(new + b"2", os.O_RDWR) as other:
        os.pwrite(fd, b"by one", 0)
        assert os.pread(other, 6, 0) == b"by one"
        os.unlink(new)
        os.rename(new + b"2", new)
        os.pwrite(other, b"by two", 0)
        assert os.pread(fd, 6, 0) == read(new)[:6] == b"by two"


def test_without_a_name(mounted, new):
    with opened(new, os.O_RDWR) as fd, opened(mounted.root, os.O_RDWR | os.O_TMPFILE) as other:
        os.unlink(new)
        for one in (fd, other):
            os.pwrite(one, b"nameless", 0)
            assert os.pread(one, 8, 0) == b"nameless"
            assert _is_passed(mounted.pid, one)
            with opened(b"/proc/self/fd/%d" % one, os.O_RDWR) as again:
                os.pwrite(again, b"NAME", 0)
                assert os.pread(one, 8, 0) == b"NAMEless"


def test_truncating_and_reserving(mounted, new):
    with opened(new, os.O_RDWR) as fd, mmap.mmap(fd, 0) as memory:
        os.ftruncate(fd, 10)
        assert os.fstat(fd).st_size == 10 and os.pread(fd, 20, 0) == OLD[:10]
        os.truncate(new, PAGE)
        assert memory[:12] == OLD[:10] + b"\0\0"
        os.posix_fallocate(fd, 0, 5 * PAGE)
        assert os.fstat(fd).st_size == 5 * PAGE
        with opened(mounted.root + b"/d/g", os.O_RDONLY) as source:
            os.copy_file_range(source, fd, 8, 4, 0)
        assert os.pread(fd, 8, 0) == memory[:8] == b"old old "
        with opened(new, os.O_WRONLY | os.O_TRUNC):
            assert os.fstat(fd).st_size == 0 and os.pread(fd, 8, 0) == b""


@pytest.mark.parametrize("bits", [stat.S_ISUID, stat.S_ISGID])
@pytest.mark.parametrize("late", [False, True])
def test_what_a_stranger_writes_takes_set_id_bits(mounted, new, bits, late):
    """*late*: he has the file open before it gets them."""
    os.chown(new, 5, 6)
    mode = 0o777 | bits
    if not late:
        os.chmod(new, mode)
    ready, go = os.pipe(), os.pipe()

    def change() -> None:
        with opened(new, os.O_WRONLY) as fd:
            os.write(ready[1], b"r")
            os.read(go[0], 1)
            os.pwrite(fd, b"#!", 0)

    with ThreadPoolExecutor() as threads:
        stranger = threads.submit(as_user, change, uid=OTHER, gid=OTHER)
        os.read(ready[0], 1)
        if late:
            os.chmod(new, mode)
        assert os.stat(new).st_mode & 0o7777 == mode
        os.write(go[1], b"g")
        assert stranger.result() == 0
    assert os.stat(new).st_mode & 0o7777 == 0o777
    for one in (*ready, *go):
        os.close(one)


def test_what_a_stranger_wrote_late_does_not_run_with_its_owners_rights(mounted):
    """Nobody looks at the file in between: the kernel would know its old mode."""
    program = mounted.root + b"/d/id"
    shutil.copyfile(b"/usr/bin/id", program)
    os.chmod(program, 0o777)
    content = read(program)
    with opened(program, os.O_RDWR) as fd:

        def change() -> None:
            os.pwrite(fd, content[:100], 0)

        os.chmod(program, 0o4777)
        os.stat(program)
        assert as_user(change, uid=OTHER, gid=OTHER) == 0
    out = program + b".out"
    write(out, b"")
    os.chmod(out, 0o666)

    def run() -> None:
        with open(out, "wb") as file:
            os.dup2(file.fileno(), 1)
        os.execv(program, [b"id", b"-u"])

    as_user(run, uid=OTHER, gid=OTHER)
    assert read(out) == b"%d\n" % OTHER


def test_a_running_program_cannot_be_written(mounted):
    program = mounted.root + b"/d/sleep"
    shutil.copyfile(b"/usr/bin/sleep", program)
    os.chmod(program, 0o755)
    with opened(program, os.O_RDWR), pytest.raises(OSError) as busy:
        os.posix_spawn(program, [b"sleep", b"0"], {})
    assert busy.value.errno == errno.ETXTBSY
    pid = os.posix_spawn(program, [b"sleep", b"30"], {})
    try:
        with pytest.raises(OSError) as busy, opened(program, os.O_RDWR):
            pass
        assert busy.value.errno == errno.ETXTBSY
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


@pytest.mark.needs_loop
def test_direct_writing_ends_with_a_piece_that_is_not(disk, union):  # noqa: F811
    """dd(1) takes O_DIRECT off for that, of which the kernel tells the upper's file nothing."""
    root = union(build_stack(disk.root + b"/s", [[File(b"f")]]), options=PASSING).root
    write(root + b"/new", OLD)
    for path in (root + b"/made", root + b"/f", root + b"/new"):
        command = [b"dd", b"if=/dev/stdin", b"of=" + path, b"bs=4096", b"oflag=direct"]
        done = subprocess.run(command, input=OLD[: 3 * PAGE + 100], capture_output=True)
        assert done.returncode == 0, done.stderr
        assert read(path) == OLD[: 3 * PAGE + 100]


def test_a_file_that_only_grows_is_not_written_through_a_map(layers, mounted, new):
    subprocess.run(["chattr", "+a", new], check=True)
    try:
        with opened(new, os.O_RDONLY), opened(new, os.O_RDWR | os.O_APPEND) as fd:
            with mmap.mmap(fd, 0) as memory:  # no local filesystem would go so far
                memory[:4] = b"evil"
            assert os.write(fd, b"more") == 4
        assert read(new)[-4:] == b"more"
    finally:
        subprocess.run(["chattr", "-a", new], check=True)
    assert read(layers.upper + b"/d/new") == OLD + b"more"


def test_the_kernels_overlayfs_finds_the_same(scratch, layers, mounted, new):
    with opened(mounted.root + b"/d/f", os.O_RDWR) as fd:
        os.pwrite(fd, b"NEW", 7)
    shutil.copyfile(new, mounted.root + b"/d/g")
    before = trees.snapshot(mounted.root)
    mounted.unmount()
    with KernelOverlay(layers, scratch + b"/k") as there:
        trees.assert_same(before, trees.snapshot(there.root), ("union", "kernel"))


@pytest.mark.needs_loop
def test_a_write_that_syncs_itself_outlives_a_loss_of_power(disk, left, union):  # noqa: F811
    """What pwritev2(2) asks of one write the kernel does as fdatasync(2), and asks nobody.

    Of a copy whose content is on the disk, and whose rename into the upper is not, that would leave
    the lower file to come back.
    """
    layers = build_stack(disk.root + b"/s", [[File(b"f", b"old ", SIZE)], [File(b"x")]])
    with union(layers, options=PASSING) as before:
        os.chmod(before.root + b"/f", 0o600)
    assert layers.upper is not None
    os.rename(layers.upper + b"/f", disk.root + b"/copy")
    disk.sync()
    os.rename(disk.root + b"/copy", layers.upper + b"/f")
    mounted = union(layers, options=PASSING)
    with opened(mounted.root + b"/f", os.O_RDWR) as fd:
        assert _is_passed(mounted.pid, fd)
        os.pwritev(fd, [b"fresh"], 9, os.RWF_DSYNC)
        assert read(union(left(layers)).root + b"/f")[9:14] == b"fresh"


def test_an_upper_that_keeps_owners_in_an_attribute_is_refused(scratch, union):
    layers = build_stack(scratch + b"/w", [[File(b"f")]])
    with pytest.raises(
        MountFailed, match="data=passthrough: the upper keeps owners in an attribute"
    ):
        union(layers, options=[*PASSING, b"xattr_permissions=2"])


def test_many_descriptors_and_processes(mounted) -> None:
    """Opening, writing and closing side by side: each sees what any of them wrote last."""
    paths = [mounted.root + b"/d/many%d" % number for number in range(8)]

    def work(number: int) -> None:
        mine = b"%04d" % number
        for round_ in range(60):
            path = paths[(number + round_) % len(paths)]
            with opened(path, os.O_RDWR | os.O_CREAT) as fd:
                assert os.pwrite(fd, mine, number * 4) == 4
                assert os.pread(fd, 4, number * 4) == mine

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))
    for path in paths:
        assert read(path) == b"".join(b"%04d" % number for number in range(6))
