"""What a mount tells of its requests to who traces it, and what that leaves as it is."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.support import kernel
from tests.support.files import read, write
from tests.support.stacks import Dir, File, Layers, Symlink, build_stack
from tests.support.traced import decoded, told
from unionfs.container.stats import read_stats
from unionfs.container.tracing import blind_spots, read_events
from unionfs.errors import UnavailableError
from unionfs.inspect.event import Event

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

TRACE = "user.unionfs.trace."
READER = "0123456789abcdef."
STACK = [
    [File(b"d/low", size=5), File(b"big", size=70_000), File(b"gone"), Dir(b"d")],
    [File(b"d/high", size=20), Dir(b"e"), Symlink(b"l", b"d/low")],
]
RECORD = [b"dev", b"suid", b"record"]
_PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_READER = """
import os, sys
from unionfs.container.tracing import read_events
for batch in read_events(os.fsencode(sys.argv[1])):
    print("begun", flush=True)
    sys.stdin.read()
"""
_SOMETIMES = ("getattr", "getxattr", "flush", "ioctl")  # what is asked differs by kernel and mode


@pytest.fixture
def layers(scratch) -> Layers:
    return build_stack(scratch + b"/s", STACK)


@pytest.fixture(params=[pytest.param(False, marks=pytest.mark.needs_extension), True])
def mount(request, union: Callable) -> Callable:
    """Mount with the extension and, again, without."""
    env = {"UNIONFS_PURE": "1"} if request.param else {}
    return lambda layers, **how: union(layers, env=env, **how)


def plain(event: Event) -> tuple[object, ...]:
    """What of it is the same in every mode; of a listing neither its form nor its size is."""
    operation = {"readdirplus": "readdir", "rename2": "rename"}.get(event.operation)
    operation = operation or event.operation
    size = (event.size, event.offset) if operation != "readdir" else (0, 0)
    return operation, event.path, event.other, event.layer, *size, event.errno


def done(root: bytes) -> None:
    """A script of calls, whose requests are written down below."""
    os.listdir(root)
    subprocess.run(["cat", root + b"/d/low"], check=True, stdout=subprocess.DEVNULL)
    for name in (b"/absent", b"/d/absent"):
        assert not os.path.exists(root + name)
    fd = os.open(root + b"/d/low", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"xyz")
    os.fsync(fd)
    os.close(fd)
    os.rename(root + b"/d/low", root + b"/d/moved")
    os.link(root + b"/d/moved", root + b"/e/more")
    os.unlink(root + b"/gone")
    os.mkdir(root + b"/new")
    with pytest.raises(OSError, match="not empty"):
        os.rmdir(root + b"/d")
    os.rename(root + b"/d", root + b"/n")
    assert len(read(root + b"/n/high")) == 20
    os.rmdir(root + b"/new")
    os.symlink(b"target", root + b"/sym")
    assert os.readlink(root + b"/sym") == b"target"
    os.truncate(root + b"/big", 66_000)
    os.setxattr(root + b"/big", "user.x", b"1")
    assert os.listxattr(root + b"/big") == ["user.x"]
    os.chmod(root + b"/big", 0o600)
    os.statvfs(root)


DONE = [
    ("opendir", "/", "", "upper", 0, 0, 0),
    ("readdir", "/", "", "upper", 0, 0, 0),
    ("readdir", "/", "", "upper", 0, 0, 0),
    ("releasedir", "/", "", "upper", 0, 0, 0),
    ("lookup", "/d/low", "", "1", 0, 0, 0),
    ("open", "/d/low", "", "1", 0, 0, 0),
    ("read", "/d/low", "", "1", 5, 0, 0),
    ("release", "/d/low", "", "1", 0, 0, 0),
    ("lookup", "/absent", "", "", 0, 0, errno.ENOENT),
    ("lookup", "/d/absent", "", "", 0, 0, errno.ENOENT),
    ("open", "/d/low", "", "upper", 0, 0, 0),
    ("write", "/d/low", "", "upper", 3, 5, 0),
    ("fsync", "/d/low", "", "upper", 0, 0, 0),
    ("release", "/d/low", "", "upper", 0, 0, 0),
    ("lookup", "/d/moved", "", "", 0, 0, errno.ENOENT),
    ("rename", "/d/low", "/d/moved", "upper", 0, 0, 0),
    ("lookup", "/e/more", "", "", 0, 0, errno.ENOENT),
    ("link", "/d/moved", "/e/more", "upper", 0, 0, 0),
    ("unlink", "/gone", "", "", 0, 0, 0),
    ("lookup", "/new", "", "", 0, 0, errno.ENOENT),
    ("mkdir", "/new", "", "upper", 0, 0, 0),
    ("rmdir", "/d", "", "", 0, 0, errno.ENOTEMPTY),
    ("lookup", "/n", "", "", 0, 0, errno.ENOENT),
    ("rename", "/d", "/n", "upper", 0, 0, 0),
    ("lookup", "/n/high", "", "2", 0, 0, 0),
    ("open", "/n/high", "", "2", 0, 0, 0),
    ("read", "/n/high", "", "2", 20, 0, 0),
    ("release", "/n/high", "", "2", 0, 0, 0),
    ("rmdir", "/new", "", "", 0, 0, 0),
    ("lookup", "/sym", "", "", 0, 0, errno.ENOENT),
    ("symlink", "/sym", "", "upper", 0, 0, 0),
    ("readlink", "/sym", "", "upper", 6, 0, 0),
    ("setattr", "/big", "", "upper", 0, 0, 0),
    ("setxattr", "/big", "", "upper", 0, 0, 0),
    ("listxattr", "/big", "", "upper", 7, 0, 0),
    ("setattr", "/big", "", "upper", 0, 0, 0),
    ("statfs", "", "", "", 0, 0, 0),
]


def test_a_script_is_told_request_by_request(
    mount: Callable, layers: Layers, traced: Callable
) -> None:
    root = mount(layers, options=RECORD).root
    read(root + b"/big")
    batches = traced(root)
    before = time.time_ns()
    done(root)
    after = time.time_ns()
    events = told(batches)
    assert [plain(event) for event in events if event.operation not in _SOMETIMES] == DONE
    assert all(before <= e.start_ns <= e.start_ns + e.took_ns <= after for e in events)
    (cat,) = [e for e in events if (e.operation, e.path, e.layer) == ("open", "/d/low", "1")]
    (own,) = [e for e in events if e.operation == "mkdir"]
    assert cat.command == "cat" and cat.pid not in (0, own.pid)
    assert (own.pid, own.command) == (os.getpid(), _command())


def _command() -> str:
    with open("/proc/self/comm") as file:
        return file.read().rstrip("\n")


def test_record_shows_each_open_and_read_again(
    mount: Callable, layers: Layers, traced: Callable
) -> None:
    root = mount(layers, options=RECORD).root
    assert "opens of files" not in blind_spots(root)
    read(root + b"/big")
    batches = traced(root)
    shown: list[list[tuple]] = []
    # twice the same: again where another process had the machine's caches dropped meanwhile
    while len(shown) < 2 or (shown[-1] != shown[-2] and len(shown) < 10):
        read(root + b"/big")
        assert sorted(os.listdir(root + b"/d")) == [b"high", b"low"]
        shown.append([plain(e) for e in told(batches) if e.operation not in _SOMETIMES])
    assert shown[-1] == shown[-2]
    opened = [one[0] for one in shown[-1] if one[1] == "/big"]
    assert (opened[0], opened[-1], set(opened[1:-1])) == ("open", "release", {"read"})
    assert sum(one[4] for one in shown[-1] if one[0] == "read") == 70_000
    assert [one[0] for one in shown[-1] if one[1] == "/d"] == [
        "opendir", "readdir", "readdir", "releasedir"
    ]  # fmt: skip


@pytest.mark.needs_extension
@pytest.mark.default_mode
def test_what_the_extension_answers_is_told_too(
    union: Callable, layers: Layers, traced: Callable
) -> None:
    root = union(layers).root
    write(root + b"/made", b"x")
    batches = traced(root)
    with open(root + b"/made", "r+b", buffering=0) as file:
        told(batches)
        file.write(b"12345")
        os.fchmod(file.fileno(), 0o600)
    for name in (b"/no", b"/nor", b"/never"):
        assert not os.path.exists(root + b"/d" + name)
    events = [event for event in told(batches) if event.extension]
    assert [plain(event) for event in events if event.operation not in _SOMETIMES] == [
        ("write", "/made", "", "upper", 5, 0, 0),
        ("setattr", "/made", "", "upper", 0, 0, 0),
        *(("lookup", f"/d/{name}", "", "", 0, 0, errno.ENOENT) for name in ("no", "nor", "never")),
    ]


@pytest.mark.needs_extension
def test_what_is_carried_is_told_as_what_it_is(
    union: Callable, layers: Layers, traced: Callable
) -> None:
    root = union(layers).root
    batches = traced(root)
    with open(root + b"/made", "xb", buffering=0) as file:
        file.write(b"x")
        kernel.fallocate(file.fileno(), 0, 0, 9000)
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0
    with open(root + b"/made", "r+b") as target, open(root + b"/big", "rb") as source:
        assert os.copy_file_range(source.fileno(), target.fileno(), 500, 1000, 0) == 500
    found = {e.operation: plain(e)[1:] for e in told(batches) if e.operation not in _SOMETIMES}
    assert found["fallocate"] == ("/made", "", "upper", 9000, 0, 0)
    assert found["lseek"] == ("/made", "", "upper", 0, 0, 0)
    assert found["copy_file_range"] == ("/big", "/made", "1", 500, 1000, 0)


def test_two_are_told_the_same(mount: Callable, layers: Layers, traced: Callable) -> None:
    root = mount(layers).root
    one, other = traced(root), traced(root)
    done(root)
    events = told(one)
    assert events == told(other) != []
    one.close()
    os.mkdir(root + b"/sub")
    assert [event.operation for event in told(other)] == ["lookup", "mkdir"]
    other.close()
    assert tracing(root) == "off"


def tracing(root: bytes) -> str:
    (mode,) = [one for one in read_stats(root)["modes"] if one["mode"] == "tracing"]
    return mode["is"]


def test_one_who_does_not_ask_loses_with_a_count(
    union: Callable, layers: Layers, traced: Callable
) -> None:
    root = union(layers).root
    batches = traced(root)
    absent = root + b"/d/%0250d"
    count = 30_000
    begun = time.monotonic()
    for number in range(count):
        assert not os.path.exists(absent % number)
    was_dropped = time.monotonic() - begun > 4.5  # for being silent, on a busy machine
    found, lost = 0, 0
    while batch := next(batches):
        found += sum(event.operation == "lookup" for event in batch.events)
        lost += batch.lost
        if not batch.events:
            break
    assert lost > 100 and (found > 20_000 or was_dropped)
    assert found + lost >= count


def test_one_that_was_killed_is_forgotten(union: Callable, layers: Layers) -> None:
    root = union(layers).root
    reader = subprocess.Popen(
        [sys.executable, "-c", _READER, root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_PROJECT,
    )
    assert reader.stdout is not None and reader.stdout.readline() == b"begun\n"
    assert tracing(root) == "1 reading"
    reader.kill()
    reader.communicate()
    end = time.monotonic() + 30
    while tracing(root) != "off":
        assert time.monotonic() < end
        time.sleep(0.2)


def ask(path: bytes, what: str) -> bytes | int:
    """The value of an attribute, asked for with several sizes as getfattr(1) does, or the errno."""
    try:
        return os.getxattr(path, TRACE + what)
    except OSError as error:
        return error.errno or 0


def test_an_answer_can_be_asked_for_again(mount: Callable, layers: Layers) -> None:
    root = mount(layers).root
    assert ask(root, READER + "1") == errno.ESTALE
    assert decoded(ask(root, READER + "0")) == ([], 0, False)
    os.mkdir(root + b"/new")
    first = ask(root, READER + "1")
    assert [event.operation for event in decoded(first)[0]] == ["lookup", "mkdir"]
    assert ask(root, READER + "1") == first
    assert ask(root, READER + "3") == errno.ESTALE
    assert decoded(ask(root, READER + "2")) == ([], 0, False)
    assert ask(root, READER + "1") == errno.ESTALE
    assert ask(root, READER + "end") == b""
    assert ask(root, READER + "3") == errno.ESTALE
    for wrong in ("", "x", "0123456789ABCDEF.0", READER + "", READER + "-1", READER + "0 "):
        assert ask(root, wrong) == errno.ENODATA
    assert ask(root + b"/d", READER + "0") == errno.ENODATA
    assert tracing(root) == "off"


def test_it_is_not_listed_and_nobody_sets_it(union: Callable, layers: Layers) -> None:
    os.setxattr(layers.lowers[0] + b"/e", TRACE + READER + "0", b"a lie")
    root = union(layers).root
    for path in (root, root + b"/e"):
        assert os.listxattr(path) == []
        with pytest.raises(PermissionError):
            os.setxattr(path, TRACE + READER + "0", b"x")
        with pytest.raises(PermissionError):
            os.removexattr(path, TRACE + READER + "0")
    assert ask(root + b"/e", READER + "0") == errno.ENODATA


def _refused_in(where: Callable[[], object], root: bytes) -> bool:
    """Whether a process that went to *where* first is refused."""
    pid = os.fork()
    if pid == 0:
        status = 2
        try:
            where()
            status = int(ask(root, READER + "0") != errno.EACCES)
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0


def test_it_is_for_the_owner_outside(union: Callable, layers: Layers) -> None:
    root = union(layers).root
    assert not _refused_in(lambda: None, root)
    assert ask(root, READER + "end") == b""
    assert _refused_in(lambda: os.setresuid(1234, 1234, 1234), root)
    assert _refused_in(kernel.own_mount_namespace, root)
    assert _refused_in(lambda: os.chroot(root), b"/")
    assert tracing(root) == "off"


def test_what_does_not_tell_says_so(union: Callable, layers: Layers, scratch: bytes) -> None:
    root = union(layers, options=[b"noxattrinfo"]).root
    for path, words in ((root, "has noxattrinfo"), (scratch, "does not tell")):
        with pytest.raises(UnavailableError, match=words):
            next(read_events(path))


def test_a_mount_says_what_it_does_not_see(union: Callable, layers: Layers) -> None:
    mounted = union(layers, env={"UNIONFS_PURE": "1"})
    assert blind_spots(mounted.root) == [
        "reads of what the kernel has in its cache", "who reads and writes"
    ]  # fmt: skip
    mounted.unmount()
    mounted = union(layers, options=RECORD, env={"UNIONFS_PURE": "1"})
    assert blind_spots(mounted.root) == ["who reads and writes"]


@pytest.mark.needs_extension
def test_a_mount_with_the_extension_says_so_too(union: Callable, layers: Layers) -> None:
    mounted = union(layers)
    assert blind_spots(mounted.root) == [
        "opens of files", "opens of directories", "listings that the kernel has in its cache",
        "reads of what the kernel has in its cache",
    ]  # fmt: skip
    mounted.unmount()
    assert blind_spots(union(layers, options=RECORD).root) == []
