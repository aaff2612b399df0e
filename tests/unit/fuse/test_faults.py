"""Every system call of every change may fail, and may be the daemon's last.

For each verb and each call it makes: when the call fails, either the caller is told and nothing has
changed, or the verb is done; what the daemon believes is what is on the disk; nothing temporary
stays; and the same verb works the next time. When the daemon is killed there, the disk shows the
state before or the state after.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from unittest import mock

import pytest

from tests.support.faults import Faults, Killed
from tests.support.files import opened
from tests.support.rawcalls import fs_flags
from tests.support.worlds import (
    ROOT,
    Seen,
    World,
    differences,
    disk_dump,
    kernel_dump,
    without_threads,
)
from unionfs.fuse import native
from unionfs.syscalls import settle
from unionfs.syscalls.flags import SET_FLAGS
from unionfs.upper import rename

pytestmark = [pytest.mark.needs_root]

PAST = 10**18
RENAME_EXCHANGE = 2
USER = SimpleNamespace(uid=1000, gid=1000, pid=1, umask=0)
ACL = struct.pack(
    "<I" + "HHI" * 4, 2, 1, 7, 2**32 - 1, 4, 5, 2**32 - 1, 0x10, 7, 2**32 - 1, 0x20, 0, 2**32 - 1
)

# The new name is there and the caller told of an error, when what fails is looking at the answer.
TOO_LATE = ("enter",)
TIMES = ("keep_times",)  # a directory's times cannot be set back: the copy is there
CLEANING = ("clear_away", "discard")

Step = Callable[[World], object]


class Case:
    """What is done before (``given``) and the change that is tried (``when``)."""

    def __init__(self, when: Step, *given: Step) -> None:
        self.when = when
        self.given = given


def _carried(opcode: int, path: bytes, body: Callable[[World], bytes]) -> Step:
    """Ask for what the extension brings in the form of a GETXATTR."""

    def step(world: World) -> object:
        ino, asked = world.lookup(path), (opcode, body(world))
        with mock.patch.object(native, "carried", lambda: asked):
            return world.do("getxattr", ino, native.CARRIER, ROOT)

    return step


def _allocate(path: bytes, mode: int, offset: int, length: int) -> Step:
    return _carried(43, path, lambda w: struct.pack("=QQQII", 0, offset, length, mode, 0))


def _seek(path: bytes, offset: int, whence: int) -> Step:
    return _carried(46, path, lambda w: struct.pack("=QqII", 0, offset, whence, 0))


def _copy(source: bytes, target: bytes, length: int) -> Step:
    return _carried(
        47, source, lambda w: struct.pack("=7Q", 0, 0, w.lookup(target), 0, 1, length, 0)
    )


def _flags(path: bytes, wanted: int) -> Step:
    """As chattr(1), which leaves alone what says how the filesystem keeps the file."""

    def body(world: World) -> bytes:
        head = struct.pack("=QIIQII", 0, 0, SET_FLAGS, 0, 8, 0)
        with opened(world.lowers[1] + b"/" + path, os.O_RDONLY) as fd:
            return head + struct.pack("=Q", fs_flags(fd) | wanted)

    return _carried(39, path, body)


def _nameless(world: World) -> None:
    with mock.patch.object(native, "asks_tmpfile", lambda: True):
        world.create(b"dir/sub/any", mode=0o640, ctx=USER)


def _pure(world: World) -> None:
    """Let no redirect be written, so that a renamed directory is copied up whole."""
    world.limit_redirects = True  # type: ignore[attr-defined]


CASES = {
    "copy up and write": Case(lambda w: w.write(b"file", b"new")),
    "copy up a large file": Case(lambda w: w.setattr(b"dir/sub/deep", mode=0o600)),
    "copy up a file with attributes": Case(lambda w: w.setxattr(b"attrs", b"user.two", b"2")),
    "open with O_TRUNC": Case(lambda w: w.open(b"file", os.O_WRONLY | os.O_TRUNC)),
    "truncate": Case(lambda w: w.setattr(b"file", size=3)),
    "truncate a hard link": Case(lambda w: w.setattr(b"hard/one", size=3)),
    "extend": Case(lambda w: w.setattr(b"file", size=100)),
    "chmod a directory": Case(lambda w: w.setattr(b"dir/sub", mode=0o700)),
    "chown a link": Case(lambda w: w.setattr(b"symlink", uid=5, gid=5)),
    "chmod a fifo": Case(lambda w: w.setattr(b"fifo", mode=0o640)),
    "chmod a hard link": Case(lambda w: w.setattr(b"hard/one", mode=0o600)),
    "chmod a second hard link": Case(
        lambda w: w.setattr(b"hard/two", mode=0o600), lambda w: w.setattr(b"hard/one", uid=7)
    ),
    "create": Case(lambda w: w.create(b"dir/new", mode=0o640)),
    "create for a user": Case(lambda w: w.create(b"dir/new", ctx=USER)),
    "create over a whiteout": Case(lambda w: w.create(b"file"), lambda w: w.unlink(b"file")),
    "create below a default ACL": Case(
        lambda w: w.create(b"dir/new", ctx=USER),
        lambda w: w.setxattr(b"dir", b"system.posix_acl_default", ACL),
    ),
    "allocate": Case(_allocate(b"file", 0, 0, 4096)),
    "allocate for a copy": Case(_allocate(b"file", 0, 0, 4096), lambda w: w.write(b"file", b"x")),
    "punch a hole": Case(_allocate(b"dir/sub/deep", 3, 0, 4096)),
    "seek a hole": Case(_seek(b"dir/sub/deep", 0, os.SEEK_HOLE)),
    "seek data of a copy": Case(
        _seek(b"dir/sub/deep", 0, os.SEEK_DATA), lambda w: w.setattr(b"dir/sub/deep", mode=0o600)
    ),
    "copy a range": Case(_copy(b"file", b"dir/a", 3)),
    "copy a range to a copy": Case(_copy(b"file", b"dir/a", 3), lambda w: w.write(b"dir/a", b"x")),
    "set a file's flags": Case(_flags(b"file", 0x40)),
    "make a file immutable": Case(_flags(b"file", 0x10)),
    "make a directory append-only": Case(_flags(b"dir/sub", 0x20)),
    "let a file change again": Case(_flags(b"file", 0), _flags(b"file", 0x30)),
    "make a nameless file": Case(_nameless),
    "mkdir": Case(lambda w: w.mkdir(b"dir/sub/new")),
    "mkdir for a user over a removed directory": Case(
        lambda w: w.mkdir(b"empty", ctx=USER), lambda w: w.rmdir(b"empty")
    ),
    "symlink over a whiteout": Case(
        lambda w: w.symlink(b"file", b"x"), lambda w: w.unlink(b"file")
    ),
    "mknod": Case(lambda w: w.mknod(b"dir/fifo", stat.S_IFIFO | 0o600)),
    "link": Case(lambda w: w.link(b"file", b"dir/other")),
    "link over a whiteout": Case(
        lambda w: w.link(b"file", b"symlink"), lambda w: w.unlink(b"symlink")
    ),
    "link a hard link": Case(lambda w: w.link(b"hard/one", b"three")),
    "unlink": Case(lambda w: w.unlink(b"dir/a")),
    "unlink the second": Case(lambda w: w.unlink(b"dir/a"), lambda w: w.unlink(b"file")),
    "unlink an upper file": Case(lambda w: w.unlink(b"new"), lambda w: w.create(b"new")),
    "unlink a copy": Case(lambda w: w.unlink(b"file"), lambda w: w.write(b"file", b"x")),
    "unlink a hard link": Case(lambda w: w.unlink(b"hard/one")),
    "unlink the last hard link": Case(
        lambda w: w.unlink(b"hard/one"), lambda w: w.unlink(b"hard/two")
    ),
    "rmdir": Case(lambda w: w.rmdir(b"empty")),
    "rmdir an upper directory": Case(lambda w: w.rmdir(b"new"), lambda w: w.mkdir(b"new")),
    "rmdir a merged directory": Case(
        lambda w: w.rmdir(b"merged"),
        lambda w: w.unlink(b"merged/one"),
        lambda w: w.unlink(b"merged/two"),
    ),
    "rmdir a moved directory full of whiteouts": Case(
        lambda w: w.rmdir(b"moved"),
        lambda w: w.rename(b"merged", b"moved"),
        lambda w: w.unlink(b"moved/one"),
        lambda w: w.unlink(b"moved/two"),
    ),
    "rename": Case(lambda w: w.rename(b"file", b"dir/other")),
    "rename an upper file": Case(
        lambda w: w.rename(b"new", b"dir/other"), lambda w: w.create(b"new")
    ),
    "rename over a file": Case(lambda w: w.rename(b"file", b"dir/a")),
    "rename over a hard link": Case(lambda w: w.rename(b"file", b"hard/one")),
    "rename a hard link": Case(lambda w: w.rename(b"hard/one", b"elsewhere")),
    "rename over a whiteout": Case(
        lambda w: w.rename(b"file", b"symlink"), lambda w: w.unlink(b"symlink")
    ),
    "rename a directory": Case(lambda w: w.rename(b"dir", b"moved")),
    "rename a directory again": Case(
        lambda w: w.rename(b"moved", b"merged/moved"), lambda w: w.rename(b"dir", b"moved")
    ),
    "rename a directory over an empty one": Case(lambda w: w.rename(b"dir", b"empty")),
    "rename a directory over one full of whiteouts": Case(
        lambda w: w.rename(b"dir", b"merged"),
        lambda w: w.setattr(b"merged", mode=0o700),
        lambda w: w.unlink(b"merged/one"),
        lambda w: w.unlink(b"merged/two"),
    ),
    "rename a directory over a whiteout": Case(
        lambda w: w.rename(b"dir", b"file"), lambda w: w.unlink(b"file")
    ),
    "rename an upper directory to a removed one's name": Case(
        lambda w: w.rename(b"new", b"empty"),
        lambda w: w.rmdir(b"empty"),
        lambda w: w.mkdir(b"new"),
        lambda w: w.create(b"new/inside"),
    ),
    "exchange files": Case(lambda w: w.rename(b"file", b"dir/a", RENAME_EXCHANGE)),
    "exchange directories": Case(lambda w: w.rename(b"dir", b"merged", RENAME_EXCHANGE)),
    "exchange file and directory": Case(lambda w: w.rename(b"file", b"dir", RENAME_EXCHANGE)),
    "rename a directory without redirect": Case(lambda w: w.rename(b"dir", b"moved"), _pure),
    "rename hard links without redirect": Case(lambda w: w.rename(b"hard", b"moved"), _pure),
}


@pytest.fixture(scope="module")
def lowers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[bytes, ...]]:
    """Two layers; a test that changes one breaks the rule of all rules."""
    folder = os.fsencode(tmp_path_factory.mktemp("lowers"))
    bottom, top = folder + b"/bottom", folder + b"/top"
    for path in ("dir/sub", "merged", "hard", "empty"):
        os.makedirs(bottom + b"/" + path.encode())
    os.makedirs(top + b"/merged")
    for path in ("file", "dir/a", "merged/one", "hard/one", "attrs"):
        with open(bottom + b"/" + path.encode(), "wb") as file:
            file.write(path.encode() * 3)
    with open(bottom + b"/dir/sub/deep", "wb") as file:
        file.seek(100_000)
        file.write(b"end")
    with open(top + b"/merged/two", "wb") as file:
        file.write(b"two")
    os.link(bottom + b"/hard/one", bottom + b"/hard/two")
    os.symlink(b"file", bottom + b"/symlink")
    os.mkfifo(bottom + b"/fifo", 0o600)
    os.setxattr(bottom + b"/attrs", b"user.one", b"1")
    _age(folder)
    before = disk_dump(folder)
    yield top, bottom
    assert differences(before, disk_dump(folder)) == []


def _age(folder: bytes) -> None:
    for path, names, files in os.walk(folder, topdown=False):
        for name in (*names, *files):
            os.utime(os.path.join(path, name), ns=(PAST, PAST), follow_symlinks=False)
    os.utime(folder, ns=(PAST, PAST))


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    with without_threads(monkeypatch):
        old = os.umask(0)
        monkeypatch.setattr(os, "fdatasync", lambda fd: None)  # counted, and not waited for
        monkeypatch.setattr(settle, "_sync_file_range", lambda *args: 0)
        yield Faults(monkeypatch)
        os.umask(old)


_tried: dict[str, set[str]] = {}


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> set[str]:
    """The places in the code at which this test has made calls fail in earlier cases."""
    return _tried.setdefault(request.function.__name__, set())


class Trial:
    """One case on fresh directories: made, brought to its beginning, tried, looked at."""

    def __init__(
        self, case: Case, folder: bytes, lowers: tuple[bytes, ...], patch: pytest.MonkeyPatch
    ) -> None:
        self.case, self.folder, self.lowers = case, folder, lowers
        self.world = World(folder, lowers)
        os.utime(self.world.upperdir, ns=(PAST, PAST))
        for step in case.given:
            step(self.world)
        patch.setattr(rename, "_REDIRECT_MAX", 0 if hasattr(self.world, "limit_redirects") else 256)
        self.before = self.look()

    def look(self) -> dict[bytes, Seen]:
        return _all_stamped(self.world.dump())

    def attempt(self, faults: Faults, number: int, *, kill: bool = False) -> OSError | None:
        """Try the change with the fault *number*; return the error that it ended with."""
        real = self.world.do

        def do(handler: str, *args: object) -> object:
            if handler in ("lookup", "release"):
                return real(handler, *args)
            with faults.armed():
                return real(handler, *args)

        self.world.do = do  # type: ignore[method-assign]
        faults.start(number, kill=kill)
        try:
            self.case.when(self.world)
        except OSError as error:
            return error
        finally:
            self.world.do = real  # type: ignore[method-assign]
        return None

    def temporaries(self) -> list[bytes]:
        work = self.world.work
        assert work is not None
        return [name for name in map(os.fsencode, os.listdir(work.fd)) if name != work._whiteout]

    def reopen(self) -> None:
        self.world = World(self.folder, self.lowers)


def _without_directory_times(dump: dict[bytes, Seen]) -> dict[bytes, Seen]:
    return {
        path: seen._replace(mtime=0) if stat.S_ISDIR(seen.mode) else seen
        for path, seen in dump.items()
    }


def _all_stamped(dump: dict[bytes, Seen]) -> dict[bytes, Seen]:
    return {path: _stamped(seen) for path, seen in dump.items()}


def _stamped(seen: Seen) -> Seen:
    """Times that the tests did not set are "now"."""
    return seen._replace(mtime=seen.mtime if seen.mtime == PAST else -1)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.needs_kernel_overlay
def test_the_kernel_agrees_with_what_is_written(
    name: str, tmp_path_factory, lowers, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = os.fsencode(tmp_path_factory.mktemp("world"))
    opened = _descriptors()
    trial = Trial(CASES[name], folder, lowers, monkeypatch)
    assert trial.attempt(faults, -1) is None
    numbers = trial.world.numbers()
    after = trial.world.dump()
    assert trial.temporaries() == []
    trial.world.close()
    assert _descriptors() == opened
    assert differences(after, kernel_dump(trial.world)) == []
    trial.reopen()
    assert differences(after, trial.world.dump()) == []
    assert trial.world.numbers() == numbers, (trial.folder, lowers)
    trial.world.close()


@pytest.mark.parametrize("name", CASES)
def test_a_failing_call_changes_nothing_or_does_not_matter(
    name: str,
    tmp_path_factory,
    lowers,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
    tried: set[str],
) -> None:
    base = os.fsencode(tmp_path_factory.mktemp("world"))
    trial = Trial(CASES[name], base + b"/plain", lowers, monkeypatch)
    assert trial.attempt(faults, -1) is None
    after, numbers = trial.look(), faults.new_places(tried)
    trial.world.close()
    wrong = []
    opened = _descriptors()
    for number in numbers:
        trial = Trial(CASES[name], base + b"/%d" % number, lowers, monkeypatch)
        error = trial.attempt(faults, number)
        where = f"{number}: {faults.hit}: "
        wrong += [where + line for line in _judge(trial, faults, error, after)]
        trial.world.close()
        if _descriptors() != opened:
            wrong.append(where + "descriptors leak")
            opened = _descriptors()
        shutil.rmtree(trial.folder)
    assert not wrong, "\n".join(wrong)


def _judge(
    trial: Trial, faults: Faults, error: OSError | None, after: dict[bytes, Seen]
) -> Iterator[str]:
    """Yield what is wrong after a change with a fault that ended in *error*."""
    blur = _without_directory_times if faults.inside(*TIMES) else dict
    too_late = error and faults.inside(*TOO_LATE)
    now, there = blur(trial.look()), blur(_all_stamped(trial.world.anew()))
    if not too_late:
        yield from differences(now, blur(trial.before if error else after))
    if not faults.inside(*CLEANING) and trial.temporaries():
        yield f"left in work: {trial.temporaries()}"
    for line in differences(now, there):
        yield "the disk has it otherwise: " + line
    if not error or too_late:
        return
    if error := trial.attempt(faults, -1):
        yield f"tried again, it fails: {error!r}"
    else:
        for line in differences(trial.look(), after):
            yield "done again: " + line


@pytest.mark.parametrize("name", CASES)
def test_killed_at_any_call_the_disk_shows_before_or_after(
    name: str,
    tmp_path_factory,
    lowers,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
    tried: set[str],
) -> None:
    base = os.fsencode(tmp_path_factory.mktemp("world"))
    trial = Trial(CASES[name], base + b"/plain", lowers, monkeypatch)
    assert trial.attempt(faults, -1) is None
    after, numbers = trial.look(), faults.new_places(tried)
    trial.world.close()
    wrong = []
    for number in numbers:
        trial = Trial(CASES[name], base + b"/%d" % number, lowers, monkeypatch)
        with pytest.raises(Killed):
            trial.attempt(faults, number, kill=True)
        where = f"{number}: {faults.hit}: "
        trial.world.abandon()
        trial.reopen()
        blur = _without_directory_times if faults.inside(*TIMES) else dict
        now = blur(trial.look())
        to_before, to_after = differences(now, blur(trial.before)), differences(now, blur(after))
        if to_before and to_after:
            wrong += [where + "before: " + line for line in to_before]
            wrong += [where + "after: " + line for line in to_after]
        if trial.temporaries():
            wrong.append(f"{where}left in work: {trial.temporaries()}")
        trial.world.close()
        shutil.rmtree(trial.folder)
    assert not wrong, "\n".join(wrong)
