"""`unionfs trace` on real mounts: lines, filters, sums, recordings, and every way to end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import kernel
from tests.support.anatomy import COMMANDS, make_store
from tests.support.command import WORD, Cli
from tests.support.files import read, write
from tests.support.fixtures import arena, scratch, spawners, union  # noqa: F401
from tests.support.mounts import HelperMount
from tests.support.stacks import Dir, File, Symlink, build_stack
from unionfs.cli.commands import run
from unionfs.errors import UsageError
from unionfs.inspect.event import Event
from unionfs.inspect.recording import End, end_mark

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

STACK = [
    [File(b"xf", size=10), File(b"low/a", size=7000), File(b"low/b", size=300)],
    [File(b"never/one", size=40), File(b"never/two", size=2)],
    [Dir(b"high"), File(b"high/c", size=5), Symlink(b"high/l", b"c")],
]
LINE = re.compile(
    r"\d\d:\d\d:\d\d\.\d{3} (?P<who>.+)\[(?P<pid>\d+)\] +(?P<operation>\w+) +(?P<layer>\S+) +"
    r"(?P<result>\S+) +[\d.]+ [mu]?s +(?P<path>.*)"
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    root = tmp_path_factory.mktemp("trace") / "store"
    make_store(root)
    return Cli(root)


@pytest.fixture
def layers(scratch):  # noqa: F811
    return build_stack(scratch + b"/s", STACK)


@pytest.fixture
def root(layers, union) -> str:  # noqa: F811
    """A mount that hears of everything."""
    return os.fsdecode(union(layers, options=[b"record"]).root)


class Trace:
    """A ``unionfs trace`` that has begun, and is ended with *number*; what it said then."""

    def __init__(self, cli: Cli, root: str, *words: str) -> None:
        before = _readers(root)
        self.process = cli.start("trace", root, *words, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 30
        while _readers(root) == before:
            assert self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)

    def end(self, number: int | None = signal.SIGINT, *, status: int = 130) -> str:
        if number is not None:
            self.process.send_signal(number)
        self.said, self.errors = self.process.communicate(timeout=30)
        assert self.process.returncode == status, (self.said, self.errors)
        return self.said


def _readers(root: str) -> str:
    """Return what the mount says of how many trace it."""
    document = json.loads(os.getxattr(root, "user.unionfs.stats"))
    return next(mode["is"] for mode in document["modes"] if mode["mode"] == "tracing")


def done(root: str) -> None:
    """A script of calls, whose requests about names with an x are written down below."""
    at = os.fsencode(root)
    os.mkdir(at + b"/xd")
    assert len(read(at + b"/xf")) == 10
    os.rename(at + b"/xd", at + b"/xe\n")
    os.unlink(at + b"/xf")
    assert not os.path.exists(at + b"/xn")
    with pytest.raises(FileExistsError):
        os.mkdir(at + b"/xe\n")


OPERATIONS = "lookup,mkdir,read,rename,unlink"
SAID = [
    ("lookup", "-", "ENOENT", "/xd"),
    ("mkdir", "upper", "ok", "/xd"),
    ("lookup", "1", "ok", "/xf"),
    ("read", "1", "10B", "/xf"),
    ("lookup", "-", "ENOENT", r"/xe\012"),
    ("rename", "upper", "ok", r"/xd -> /xe\012"),
    ("unlink", "-", "ok", "/xf"),
    ("lookup", "-", "ENOENT", "/xn"),
    ("lookup", "upper", "ok", r"/xe\012"),
]
CHOSEN = ("--operation", OPERATIONS, "--path", "*/x*", "--pid", str(os.getpid()))


def lines(said: str) -> list[tuple[str, ...]]:
    head, *rest = said.splitlines()
    assert head.split() == ["TIME", "PROCESS", "REQUEST", "LAYER", "RESULT", "TOOK", "PATH"]
    found = [LINE.fullmatch(line) for line in rest]
    assert all(found), said
    with open("/proc/self/comm") as comm:
        assert {(one["who"], one["pid"]) for one in found if one} == {
            (comm.read().strip(), str(os.getpid()))
        }
    return [one.group("operation", "layer", "result", "path") for one in found if one]


@pytest.mark.needs_extension
def test_a_line_a_request(cli, root):
    trace = Trace(cli, root, *CHOSEN)
    done(root)
    assert lines(trace.end()) == SAID
    assert trace.errors == ""
    assert max(map(len, trace.said.splitlines())) <= 80


@pytest.mark.needs_extension
def test_what_is_not_seen_is_said_once(cli, layers, union):  # noqa: F811
    plain = os.fsdecode(union(layers).root)
    trace = Trace(cli, plain, *CHOSEN)
    done(plain)
    found = lines(trace.end(signal.SIGTERM, status=143))
    assert found[0] == SAID[0] and found[-1] == SAID[-1]
    assert trace.errors.startswith("unionfs: not seen here: ")
    assert "reads of what the kernel has in its cache" in trace.errors
    assert trace.errors.endswith("(a mount with -o record shows more)\n")
    assert trace.errors.count("\n") == 1
    quiet = Trace(cli, plain, "-q", "--for", "0.01")
    quiet.end(None, status=0)
    assert quiet.errors == ""


def test_record_is_not_offered_where_it_shows_no_more(cli, layers, union):  # noqa: F811
    pure = os.fsdecode(union(layers, options=[b"record"], env={"UNIONFS_PURE": "1"}).root)
    trace = Trace(cli, pure, "--for", "0.01")
    trace.end(None, status=0)
    assert trace.errors == "unionfs: not seen here: who reads and writes\n"


def test_documents_and_filters(cli, root):
    every = Trace(cli, root, "--json", "--path", "*/x*")
    failed = Trace(cli, root, "--json", "--path", "/x?", "--errno", "any")
    slow = Trace(cli, root, "--json", "--slower-than", "1000s")
    other = Trace(cli, root, "--json", "--command", "nobody", "--pid", "1")
    done(root)
    events = [Event.of(json.loads(line)) for line in every.end().splitlines()]
    assert [one.path for one in events if one.operation == "mkdir"] == ["/xd"]
    renames = [one for one in events if one.operation == "rename"]
    assert [(one.path, one.other) for one in renames] == [("/xd", "/xe\n")]
    assert all(one.took_ns > 0 and one.start_ns > 1e18 for one in events)
    missed = [Event.of(json.loads(line)) for line in failed.end().splitlines()]
    assert [one.path for one in missed if one.operation == "lookup"] == ["/xd", "/xn"]
    assert all(one.errno for one in missed)
    assert (slow.end(), other.end()) == ("", "")


def test_it_ends_by_count_and_by_time(cli, root):
    trace = Trace(cli, root, *CHOSEN, "--count", "3")
    done(root)
    assert lines(trace.end(None, status=0)) == SAID[:3]
    timed = Trace(cli, root, "--summary", "--json", "--for", "0.2")
    document = json.loads(timed.end(None, status=0))
    assert (document["target"], document["lost"]) == (root, 0)
    assert document["seconds"] >= 0.2


def test_sums_come_with_the_interruption(cli, root):
    trace = Trace(cli, root, "--summary", "--operation", "mkdir,rename", "--path", "/x*")
    done(root)
    head, *rows = [line.split() for line in trace.end().splitlines()]
    assert head == ["%", "TIME", "TOTAL", "MEAN", "LONGEST", "CALLS", "ERRORS", "REQUEST"]
    assert {tuple(row[-3:]) for row in rows} == {
        ("1", "0", "mkdir"), ("1", "0", "rename"), ("2", "0", "all")
    }  # fmt: skip
    assert rows[-1][0] == "100.0"


def test_it_ends_with_the_mount(cli, layers, union):  # noqa: F811
    mount = union(layers, options=[b"record"])
    trace = Trace(cli, os.fsdecode(mount.root), "--operation", "mkdir")
    os.mkdir(mount.root + b"/new")
    assert trace.process.stdout is not None
    assert trace.process.stdout.readline().startswith("TIME")
    assert trace.process.stdout.readline().endswith(" /new\n")
    mount.unmount()
    assert trace.end(None, status=0) == ""
    assert trace.errors.endswith(f"unionfs: {os.fsdecode(mount.root)} is unmounted\n")


def test_a_daemon_that_dies_is_a_failure(cli, layers, scratch):  # noqa: F811
    mount = HelperMount(layers, scratch + b"/dead")  # not by the fixture, which wants a good end
    trace = Trace(cli, os.fsdecode(mount.root), "-q", "--summary")
    os.kill(mount.pid, signal.SIGKILL)
    mount.wait()
    assert "REQUEST" in trace.end(None, status=1)
    where = os.fsdecode(mount.root)
    assert trace.errors == f"unionfs: error: {where}: the mount's daemon is gone\n"
    kernel.umount(mount.root)


def test_a_closed_pipe_is_no_failure(cli, root):
    words = [*WORD, "trace", "-q", root]
    trace = subprocess.Popen(words, env=cli.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert trace.stdout is not None and trace.stderr is not None
    assert trace.stdout.readline().startswith(b"TIME")
    trace.stdout.close()
    while trace.poll() is None:
        os.path.exists(f"{root}/x{time.monotonic_ns()}")
        time.sleep(0.01)
    assert (trace.returncode, trace.stderr.read()) == (141, b"")
    trace.stderr.close()


@pytest.mark.needs_extension
def test_what_a_container_read(cli, target, tmp_path):
    cli("create", "anatomy", "--name", "web")
    cli("mount", "web", str(target), "-o", "record")
    file = tmp_path / "recorded"
    trace = Trace(cli, str(target), "--record", str(file))
    at = os.fsencode(target)
    for _ in range(2):
        assert read(at + b"/etc/motd") == b"welcome\n"
    assert read(at + b"/app/run") == b"run\n"
    os.stat(at + b"/app/data")
    with open(at + b"/etc/passwd", "ab") as passwd:
        passwd.write(b"a:b\n")
    os.unlink(at + b"/app/run")
    write(at + b"/new", b"new")
    assert trace.end() == ""
    assert re.fullmatch(rf"unionfs: \d+ requests recorded in {file}\n", trace.errors)
    _written_answers(cli.json("trace", "report", str(file)), cli)
    _readable(cli("trace", "report", str(file)))


def _written_answers(found: dict, cli: Cli) -> None:
    image = cli.json("image", "inspect", "anatomy")["id"]
    assert (found["subject"], found["image"]) == ("container web", image)
    assert (found["complete"], found["lost"], found["not_seen"]) == (True, 0, [])
    told = {one["layer"]: one for one in found["layers"]}
    assert list(told) == ["upper", "layer 4", "layer 3", "layer 2", "layer 1"]
    assert [told[f"layer {number}"]["command"] for number in (1, 2, 3, 4)] == list(COMMANDS)
    figures = {
        name: (one["has"], one["seen"], tuple(one["read"].values()))
        for name, one in told.items()
        if name != "upper"
    }
    assert figures == {
        "layer 4": ({"files": 3, "bytes": 19}, {"files": 2}, (1, 8, 16)),
        "layer 3": ({"files": 2, "bytes": 18}, {"files": 0}, (0, 0, 0)),
        "layer 2": ({"files": 3, "bytes": 1004}, {"files": 1}, (1, 4, 4)),
        "layer 1": ({"files": 6, "bytes": 377}, {"files": 1}, (0, 0, 0)),
    }
    together = found["together"]
    assert together["has"] == {"files": 14, "bytes": 1418}
    assert tuple(together["read"].values()) == (2, 12, 20)
    changed = {one["path"]: one for one in found["changed"]}
    assert {
        path: (one["what"], one["bytes_written"], one["layer"]) for path, one in changed.items()
    } == {
        "/etc/passwd": (["written"], 4, "1"),
        "/app/run": (["removed"], 0, "2"),
        "/new": (["created", "written"], 3, None),
    }  # fmt: skip


def _readable(text: str) -> None:
    assert max(map(len, text.splitlines())) <= 80
    assert "2 of 14 files of the layers were read (14.3%), 12B of 1.42kB (0.8%)" in text
    assert f"\nNever touched:\n  layer 3, 18B: {COMMANDS[2]}\n" in text
    assert re.search(r"^layer 4 +3 +2 +1 +33\.3% +19B +8B +42\.1% +16B$", text, re.M)
    assert re.search(r"^8B +16B +8B +4 +/etc/motd$", text, re.M)
    assert re.search(r"^created, written +3B +- +/new$", text, re.M)
    assert "\n! " not in text


@pytest.mark.needs_extension
def test_a_report_says_what_it_cannot_know(cli, layers, union, tmp_path):  # noqa: F811
    mount = union(layers)
    file = tmp_path / "recorded"
    file.write_bytes(b"x" * 10_000)
    words = ("--record", str(file), "--path", "*/[ac]", "--summary", "--json")
    trace = Trace(cli, os.fsdecode(mount.root), *words)
    read(mount.root + b"/low/a")
    read(mount.root + b"/high/c")
    assert set(json.loads(trace.end())["requests"]) >= {"lookup", "read"}
    mount.unmount()
    os.rename(layers.lowers[0], layers.lowers[0] + b".gone")
    text = cli("trace", "report", str(file))
    assert "\n! recorded with --path */[ac]: nothing else is counted\n" in text
    assert "\n! not seen, so not in these figures: opens of " in text.replace("\n  ", " ")
    assert "\n! what layer 3 has is not known: " in text
    assert "2 files of the layers were read, " in text
    assert max(map(len, text.splitlines())) <= 80 + len(mount.root)
    whole = file.read_bytes()
    file.write_bytes(whole[: -len(end_mark(End(0, 0))) - 9])
    assert "\n! the recording was cut short\n" in cli("trace", "report", str(file))
    found = cli.json("trace", "report", str(file))
    assert (found["complete"], found["lost"], found["together"]["has"]) == (False, None, None)
    assert [one["not_measured"] is None for one in found["layers"]] == [True, False, True, True]


def test_it_is_not_recorded_on_the_mount_itself(cli, root):
    write(os.fsencode(root) + b"/old", b"old")
    for name in ("old", "new"):
        assert "is on the mount that is traced" in cli.fails(
            "trace", root, "--record", f"{root}/{name}"
        )
    assert read(os.fsencode(root) + b"/old") == b"old" and not os.path.exists(f"{root}/new")
    with open(f"{root}/out", "w") as out:
        done = cli.run("trace", root, capture_output=False, stdout=out, stderr=subprocess.PIPE)
    assert (done.returncode, os.path.getsize(f"{root}/out")) == (1, 0)
    assert "standard output is on the mount" in done.stderr


def test_a_full_disk_is_one_line(cli, root):
    said = cli.fails("trace", "-q", root, "--record", "/dev/full")
    assert said == "/dev/full: No space left on device"


def test_a_bad_target_leaves_the_file(cli, tmp_path):
    file = tmp_path / "old"
    file.write_bytes(b"old")
    said = cli.fails("trace", str(tmp_path), "--record", str(file))
    assert said == f"{tmp_path} is not a mount point of unionfs" and file.read_bytes() == b"old"
    assert "no such container" in cli.fails("trace", "nobody")
    assert "trace report wants the FILE of a recording" in cli.fails("trace", "report")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("web", "--operation", "opne"), "no operation is called 'opne'; there are: access, "),
        (("web", "--errno", "ENOWAY"), "'ENOWAY' is no error's name"),
        (("web", "--path", "etc"), "'etc' matches no path"),
        (("web", "--pid", "0"), "'0' is not a number from 1"),
        (("web", "--count", "-1"), "'-1' is not a number from 1"),
        (("web", "--slower-than", "3"), "'3' is no duration"),
        (("web", "--for", "0"), "--for takes up to 86400 seconds"),
        (("web", "--for", "nan"), "--for takes up to 86400 seconds"),
        (("web", "file"), "one container or target, and no file"),
        (("web", "--record", "r", "--json"), "--record prints nothing"),
        (("web", "--requests"), "--requests is for trace report"),
        (("report", "r", "--summary"), "trace report takes no options but --requests and --json"),
        (
            ("report", "r", "--path", "/a"),
            "trace report takes no options but --requests and --json",
        ),
        ((), "required: CONTAINER|TARGET"),
    ],
)
def test_words_that_make_no_trace(words, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        run(["unionfs", "trace", *words])


def test_files_that_are_no_recording(cli, tmp_path):
    bad = tmp_path / "bad\n"
    bad.write_bytes(os.urandom(5000))
    assert "bad is no recording of unionfs trace" in cli.fails("trace", "report", str(bad))
    assert cli.fails("trace", "report", str(tmp_path)) == f"{tmp_path}: Is a directory"
    missing = tmp_path / "none"
    assert cli.fails("trace", "report", str(missing)) == f"{missing}: No such file or directory"
    assert "is no recording" in cli.fails("trace", "report", "/dev/null")


def test_a_container_may_be_called_report(cli, target):
    cli("create", "anatomy", "--name", "report")
    cli("mount", "report", str(target))
    trace = Trace(cli, str(target), "--summary", "--for", "0.01")
    trace.end(None, status=0)
    done = cli.run("trace", "report", "--summary", "--for", "0.01")
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["%", "TIME"])
    assert Path(target).is_mount()
