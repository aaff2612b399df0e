"""Several processes at once: large copy-ups, signals, locks, storms on the same names."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import subprocess
import sys
import threading
import time

import pytest

from tests.support.files import opened, read, write
from tests.support.stacks import Dir, File, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

BIG = 200_000_000
LARGE = 60_000_000  # of several files that one test copies up


@pytest.fixture
def root(scratch, union):
    layers = build_stack(
        scratch + b"/s",
        [
            [File(b"big", b"b", BIG), File(b"small"), Dir(b"d")]
            + [File(b"d/%d" % n) for n in range(50)]
        ],
    )
    return union(layers).root


def _in_background(function) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_a_large_copy_up_stops_nobody_else(root):
    """While 200 MB are copied, other files are read, listed, made and copied up."""
    done = threading.Event()

    def copy_up() -> None:
        with opened(root + b"/big", os.O_RDWR) as fd:
            os.pwrite(fd, b"x", 0)
        done.set()

    worker = _in_background(copy_up)
    answered = 0
    while not done.is_set():
        name = root + b"/d/%d" % (answered % 50)
        assert read(name) == b"x" * 10 if answered < 50 else read(name)
        os.chmod(name, 0o600)
        write(root + b"/new%d" % answered, b"new")
        os.listdir(root + b"/d")
        answered += 1
    worker.join()
    assert answered >= 3, "others waited for the copy"
    with opened(root + b"/big", os.O_RDONLY) as fd:
        assert os.pread(fd, 3, 0) == b"xbb"


def _waits_in(pid: int) -> str:
    """Return the kernel's function that the process *pid* waits in; empty if it runs."""
    with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/wchan") as function:
        asleep = stat.read().rpartition(")")[2].split()[0] in "SD"
        return function.read().strip("0") if asleep else ""


@pytest.mark.needs_extension
def test_lookups_in_one_directory_do_not_wait_for_each_other(scratch, union):
    """The second is asked while the first has no answer: both clients wait in the same place."""
    mounted = union(build_stack(scratch + b"/s", [[Dir(b"d")]]))
    os.stat(mounted.root + b"/d")
    os.kill(mounted.pid, signal.SIGSTOP)
    try:
        clients = [
            subprocess.Popen(["/usr/bin/test", "!", "-e", mounted.root + b"/d/%d" % number])
            for number in range(2)
        ]
        deadline = time.monotonic() + 20
        while len(places := {_waits_in(client.pid) for client in clients}) > 1 or "" in places:
            assert time.monotonic() < deadline, places
    finally:
        os.kill(mounted.pid, signal.SIGCONT)
    assert [client.wait(20) for client in clients] == [0, 0]


def test_readers_of_the_file_itself_go_on(root):
    done = threading.Event()

    def copy_up() -> None:
        os.chmod(root + b"/big", 0o600)
        done.set()

    with opened(root + b"/big", os.O_RDONLY) as fd:
        worker = _in_background(copy_up)
        offset = 0
        while not done.is_set():
            assert os.pread(fd, 4096, offset % (BIG - 4096)) == b"b" * 4096
            offset += 1_234_567
        worker.join()
        assert os.pread(fd, 4096, BIG - 4096) == b"b" * 4096


def test_two_writers_start_one_copy(root):
    """Both changes are there; neither copy overwrote the other."""

    def put(at: int, what: bytes):
        def run() -> None:
            with opened(root + b"/big", os.O_RDWR) as fd:
                os.pwrite(fd, what, at)

        return run

    workers = [_in_background(put(n * 1_000_000, b"%03d" % n)) for n in range(6)]
    for worker in workers:
        worker.join()
    with opened(root + b"/big", os.O_RDONLY) as fd:
        for n in range(6):
            assert os.pread(fd, 4, n * 1_000_000) == b"%03db" % n
        assert os.fstat(fd).st_size == BIG


def _copy_begun(work: bytes, process: subprocess.Popen) -> bytes | None:
    """Return the temporary name of the copy that *process* started, once it is there.

    None if *process* ended first: the copy came and went between two looks.
    """
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if names := os.listdir(work):
            return names[0]
        if process.poll() is not None:
            return None
    raise AssertionError("no copy was started")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_to_the_writer_that_started_a_copy(scratch, union, number):
    """The writer dies at once or when the copy is made; the file is whole either way."""
    files = [File(b"f%d" % n, b"b", LARGE) for n in range(3)]
    layers = build_stack(scratch + b"/s", [files])
    root, work = union(layers).root, layers.work + b"/work"
    program = "import os,sys; fd=os.open(sys.argv[1], os.O_RDWR); os.pwrite(fd, b'x', 0)"
    under_way = 0
    for file in files:  # each copied up but once
        path = root + b"/" + file.path
        process = subprocess.Popen([sys.executable, "-c", program, path], stderr=subprocess.DEVNULL)
        temporary = _copy_begun(work, process)
        process.send_signal(number)
        under_way += temporary in os.listdir(work)
        process.wait(30)
        with opened(path, os.O_RDONLY) as fd:
            assert os.fstat(fd).st_size == LARGE
            assert os.pread(fd, 1, 0) in (b"b", b"x")
            assert os.pread(fd, LARGE, 1).count(b"b") == LARGE - 1
        write(path, b"works")
        assert read(path) == b"works"
        assert os.listdir(work) == []
    assert under_way, "no signal came while a file was copied"


def test_record_locks_between_processes(root):
    """fcntl(2) locks, taken before and after a copy-up, on parts of a file."""
    program = (
        "import fcntl,os,struct,sys\n"
        "fd=os.open(sys.argv[1], os.O_RDWR)\n"
        "try: fcntl.lockf(fd, fcntl.LOCK_EX|fcntl.LOCK_NB, 10, int(sys.argv[2]))\n"
        "except OSError: sys.exit(7)\n"
    )

    def other_gets(start: int) -> bool:
        words = [sys.executable, "-c", program, root + b"/small", str(start)]
        return subprocess.run(words, check=False).returncode == 0

    with opened(root + b"/small", os.O_RDWR) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX, 10, 0)
        assert not other_gets(5)
        assert other_gets(10)
        os.pwrite(fd, b"x", 0)
        assert not other_gets(5)
        lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 100, 10, 0)
        fcntl.fcntl(fd, 37, lock)  # F_OFD_SETLK
        assert not other_gets(100)
    assert other_gets(0)


LOCKS = {
    "flock": "fcntl.flock(fd, fcntl.LOCK_EX)",
    "posix": "fcntl.lockf(fd, fcntl.LOCK_EX)",
    "ofd": "fcntl.fcntl(fd, 38, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))",  # F_OFD_SETLKW
}


@pytest.mark.parametrize("kind", LOCKS)
def test_a_number_counted_under_a_lock_by_many_processes(scratch, union, kind):
    """Five processes add one to a number in a lower file a hundred times each.

    None begins before all are there, so that several open it while it is copied up.
    """
    root = union(build_stack(scratch + b"/s", [[File(b"count", b"0", 1)]])).root
    program = (
        "import fcntl,os,struct,sys\n"
        "print(flush=True); sys.stdin.read()\n"
        "for _ in range(100):\n"
        "    fd=os.open(sys.argv[1], os.O_RDWR)\n"
        f"    {LOCKS[kind]}\n"
        "    n=int(os.pread(fd, 20, 0)); os.pwrite(fd, b'%d' % (n+1), 0)\n"
        "    os.close(fd)\n"
    )
    words = [sys.executable, "-c", program, root + b"/count"]
    pipe = subprocess.PIPE
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(subprocess.Popen(words, stdin=pipe, stdout=pipe)) for _ in range(5)
        ]
        for worker in workers:
            assert worker.stdout.readline() == b"\n"
        for worker in workers:
            worker.stdin.close()
        assert [worker.wait(120) for worker in workers] == [0] * 5
    assert read(root + b"/count") == b"500"


def test_appends_of_many_processes_are_all_there(root):
    program = (
        "import os,sys\n"
        "fd=os.open(sys.argv[1], os.O_WRONLY|os.O_APPEND)\n"
        "for n in range(200): os.write(fd, b'%s-%03d\\n' % (sys.argv[2].encode(), n))\n"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", program, root + b"/small", name]) for name in "abc"
    ]
    assert [worker.wait(120) for worker in workers] == [0] * 3
    lines = read(root + b"/small")[10:].split()
    assert sorted(lines) == sorted(b"%c-%03d" % (c, n) for c in b"abc" for n in range(200))


def test_a_storm_on_a_few_names(root):
    """Create, rename, link and remove of the same names: only the errors there can be, no loss."""
    program = (
        "import errno,os,random,sys\n"
        "root=sys.argv[1]; r=random.Random(int(sys.argv[2]))\n"
        "ok={'ENOENT','EEXIST','ENOTEMPTY','ENOTDIR','EISDIR','EINVAL','EPERM'}\n"
        "name=lambda: root+'/'+r.choice('xyz')+r.choice(['','/x','/y'])\n"
        "def create(): os.close(os.open(name(), os.O_CREAT|os.O_WRONLY))\n"
        "calls=[create, lambda: os.mkdir(name()), lambda: os.rename(name(), name()),\n"
        "       lambda: os.unlink(name()), lambda: os.rmdir(name()),\n"
        "       lambda: os.link(name(), name()),\n"
        "       lambda: os.chmod(name(), 0o700), lambda: os.listdir(name())]\n"
        "for _ in range(600):\n"
        "    try: r.choice(calls)()\n"
        "    except OSError as e:\n"
        "        if errno.errorcode[e.errno] not in ok: raise\n"
    )
    where = root + b"/d"
    workers = [
        subprocess.Popen([sys.executable, "-c", program, where, str(seed)]) for seed in range(4)
    ]
    assert [worker.wait(200) for worker in workers] == [0] * 4
    for folder, dirs, files in os.walk(where):
        for name in dirs + files:
            os.lstat(os.path.join(folder, name))
    assert {b"%d" % n for n in range(50)} <= set(os.listdir(where))


def test_links_swapped_in_under_a_copy_up(scratch, union):
    """A tree that changes into a link to the host while a file in it is copied up.

    Who works by path strings writes through the link; the host's file must stay as it is.
    """
    layers = build_stack(scratch + b"/s", [[File(b"d%d/f" % n, b"low", 3000) for n in range(60)]])
    root = union(layers).root
    outside = scratch + b"/outside"
    os.mkdir(outside)
    write(outside + b"/f", b"the host's")
    os.chmod(outside + b"/f", 0o600)
    folders = [os.open(root + b"/d%d" % n, os.O_RDONLY | os.O_DIRECTORY) for n in range(60)]

    def swap() -> None:
        for n in range(60):
            os.rename(root + b"/d%d" % n, root + b"/moved%d" % n)
            os.symlink(outside, root + b"/d%d" % n)

    worker = _in_background(swap)
    for fd in folders:
        os.chmod(b"f", 0o4777, dir_fd=fd)
        with open(os.open(b"f", os.O_WRONLY | os.O_NOFOLLOW, dir_fd=fd), "wb") as file:
            file.write(b"of the container")
        os.setxattr(f"/proc/self/fd/{fd}/f", "user.x", b"1")
    worker.join()
    for fd in folders:
        os.close(fd)
    assert read(outside + b"/f") == b"the host's"
    assert os.lstat(outside + b"/f").st_mode & 0o7777 == 0o600
    assert os.listdir(outside) == [b"f"]
    for n in range(60):
        assert read(root + b"/moved%d/f" % n)[:16] == b"of the container"
