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
from collections.abc import Iterator

import pytest

from tests.support.fault_cases import CASES, Case
from tests.support.faults import Faults, Killed
from tests.support.worlds import (
    Seen,
    World,
    differences,
    disk_dump,
    kernel_dump,
    without_threads,
)
from unionfs.syscalls import settle
from unionfs.upper import rename

pytestmark = [pytest.mark.needs_root]

PAST = 10**18

# The new name is there and the caller told of an error, when what fails is looking at the answer.
TOO_LATE = ("enter",)
TIMES = ("keep_times",)  # a directory's times cannot be set back: the copy is there
CLEANING = ("clear_away", "discard")


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
