"""What programs hold on a file stays with it when it is copied up, moved and removed.

Locks, watches, descriptors: each test does the same on a plain directory and in the mount, and the
answers must be the same.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.support.files import opened, read, write
from tests.support.stacks import Dir, Entry, File, Link, build_layer, build_stack
from tests.support.watching import watch

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

TREES = 24  # alike, one for each time that a test calls ``same``


def _tree(at: bytes) -> tuple[Entry, ...]:
    return (
        File(at + b"d/f", b"old ", 8000),
        File(at + b"d/g", b"old ", 8000),
        Link(at + b"d/linked", at + b"d/g"),
        File(at + b"d/sub/deep", b"deep"),
        Dir(at + b"e"),
    )


_FLOCK = struct.Struct("hhqqi4x")  # struct flock on 64-bit Linux: type, whence, start, length, pid
_WHOLE = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


@pytest.fixture(params=["extension", "pure"])
def same(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, scratch, union):
    """Call a function with a plain directory and with the mount; its answers must be the same."""
    if request.param == "pure":
        monkeypatch.setenv("UNIONFS_PURE", "1")
    plain = scratch + b"/plain"
    layer = [entry for number in range(TREES) for entry in _tree(b"%d/" % number)]
    build_layer(plain, layer)
    root = union(build_stack(scratch + b"/s", [layer, [Dir(b"0/d")]])).root
    trees = iter(range(TREES))

    def both(function: Callable[[bytes], Any], about: object = None) -> Any:
        """Call *function* on a tree of its own, here and there."""
        at = b"/%d" % next(trees)
        expected = function(plain + at)
        assert function(root + at) == expected, about
        return expected

    return both


def _tree_of(path: bytes) -> bytes:
    return path[: path.rindex(b"/d/")]


def _chmod(path: bytes) -> None:
    os.chmod(path, 0o600)


def _write(path: bytes) -> None:
    with opened(path, os.O_WRONLY) as fd:
        os.pwrite(fd, b"new", 0)


def _truncate(path: bytes) -> None:
    os.truncate(path, 10)


def _rename(path: bytes) -> None:
    os.rename(path, _tree_of(path) + b"/e/moved")


def _unlink(path: bytes) -> None:
    os.unlink(path)


def _replace(path: bytes) -> None:
    write(path + b".new", b"another")
    os.rename(path + b".new", path)


def _move_parent(path: bytes) -> None:
    os.rename(os.path.dirname(path), os.path.dirname(path) + b"-moved")


CHANGES = [_chmod, _write, _truncate, _rename, _unlink, _replace, _move_parent]


Change = Callable[[bytes], None]


def _in_child(function: Callable[[], int]) -> int:
    """Return what *function* returns in a process of its own; the errno of an OSError."""
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            status = function()
        except OSError as error:
            status = error.errno or 255
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _flock_state(path: bytes) -> tuple[int, ...]:
    """Return the errno that another opener gets for a shared and an exclusive flock(2)."""

    def attempt(how: int) -> int:
        with opened(path, os.O_RDONLY) as fd:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
        return 0

    return tuple(_in_child(partial(attempt, how)) for how in (fcntl.LOCK_SH, fcntl.LOCK_EX))


def _fcntl_state(path: bytes) -> tuple[int, int]:
    """Return type and owner of the POSIX lock that another process meets."""

    def ask() -> int:
        with opened(path, os.O_RDWR) as fd:
            answer = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, _WHOLE))
            assert answer[4] in (0, -1, os.getppid())
            return 10 + answer[0] if answer[0] != fcntl.F_UNLCK else 0

    def attempt() -> int:
        with opened(path, os.O_RDWR) as fd:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 100)
        return 0

    return _in_child(ask), _in_child(attempt)


def _now_at(path: bytes, change: Change) -> bytes:
    """Return where the file at *path* is after *change*."""
    if change is _rename:
        return _tree_of(path) + b"/e/moved"
    folder, name = os.path.split(path)
    return folder + b"-moved/" + name if change is _move_parent else path


KEEPING = [_chmod, _write, _truncate, _rename, _move_parent]


@pytest.mark.parametrize("how", [fcntl.LOCK_SH, fcntl.LOCK_EX])
def test_flock(same, how):
    def act(change: Change, root: bytes) -> list[Any]:
        path = root + b"/d/f"
        with opened(path, os.O_RDONLY) as fd:
            fcntl.flock(fd, how)
            seen = [_flock_state(path)]
            change(path)
            path = _now_at(path, change)
            seen.append(_flock_state(path))
            fcntl.flock(fd, fcntl.LOCK_UN)
            return [*seen, _flock_state(path)]

    for change in KEEPING:
        assert same(partial(act, change), change)[2] == (0, 0)


@pytest.mark.parametrize("kind", [fcntl.F_SETLK, 37])
def test_locks_of_ranges(same, kind):
    """fcntl(2): the process's own, and those of an open file description (F_OFD_SETLK is 37)."""

    def act(change: Change, root: bytes) -> list[Any]:
        path = root + b"/d/f"
        with opened(path, os.O_RDWR) as fd, opened(path, os.O_RDONLY) as other:
            fcntl.fcntl(fd, kind, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 100, 10, 0))
            fcntl.fcntl(other, kind, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 200, 10, 0))
            seen = [_fcntl_state(path)]
            _in_child(lambda: change(path) or 0)  # closing the file here would end our own locks
            path = _now_at(path, change)
            seen.append(_fcntl_state(path))
            fcntl.fcntl(fd, kind, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0))
            return [*seen, _fcntl_state(path)]

    for change in KEEPING:
        assert same(partial(act, change), change)[1][1] != 0


def test_watched(same):
    """A watch from before the copy-up sees everything that follows, on file and directory."""

    def act(change: Change, name: bytes, root: bytes) -> list[Any]:
        path = root + b"/d/" + name
        with watch() as seen:
            seen.add(path, b"file")
            seen.add(os.path.dirname(path), b"directory")
            seen.add(root + b"/e", b"other")
            change(path)
            there = _now_at(path, change)
            if os.path.lexists(there):
                read(there)
                with opened(there, os.O_WRONLY | os.O_APPEND) as fd:
                    os.write(fd, b"more")
                os.chmod(there, 0o640)
                os.link(there, there + b"-link")
                os.unlink(there)
                os.unlink(there + b"-link")
            return seen.events()

    for change in CHANGES:
        for name in (b"f", b"g", b"sub/deep"):
            assert same(partial(act, change, name), (change, name))


def _facts(fd: int) -> tuple[Any, ...]:
    st = os.fstat(fd)
    return st.st_mode, st.st_nlink, st.st_uid, st.st_size


def test_open_descriptors(same):
    """Opened for reading, for writing, by path only: reads, writes and fstat stay with the file."""

    def act(change: Change, name: bytes, root: bytes) -> list[Any]:
        path = root + b"/d/" + name
        with (
            opened(path, os.O_RDONLY) as reading,
            opened(path, os.O_PATH) as by_path,
            opened(path, os.O_WRONLY | os.O_APPEND) as appending,
        ):
            fds = (reading, by_path, appending)
            before = [os.fstat(fd).st_ino for fd in fds]
            change(path)
            seen: list[Any] = [_facts(fd) for fd in fds]
            os.write(appending, b"appended")
            seen.append(os.pread(reading, 20_000, 0))
            os.fchmod(appending, 0o604)
            os.ftruncate(appending, 6)
            os.chown(b"/proc/self/fd/%d" % by_path, 7, 8)
            seen += [_facts(fd) for fd in fds]
            with opened(b"/proc/self/fd/%d" % by_path, os.O_RDONLY) as again:
                seen.append(os.read(again, 100))
                seen.append(os.fstat(again).st_ino in before)
            assert len({*before, *(os.fstat(fd).st_ino for fd in fds)}) == 1
            return seen

    for change in CHANGES:
        for name in (b"f", b"g", b"linked"):
            same(partial(act, change, name), (change, name))


def test_open_directories(same):
    """A descriptor of a directory from before its copy-up leads to what is there now."""

    def act(root: bytes) -> list[Any]:
        with opened(root + b"/d", os.O_RDONLY | os.O_DIRECTORY) as fd:
            seen: list[Any] = [sorted(os.listdir(fd))]
            write(root + b"/d/new", b"new")
            os.unlink(root + b"/d/g")
            os.rename(root + b"/d", root + b"/e/d")
            os.lseek(fd, 0, os.SEEK_SET)
            seen.append(sorted(os.listdir(fd)))
            inside = os.open(b"made", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, dir_fd=fd)
            os.close(inside)
            os.chmod(b"f", 0o600, dir_fd=fd)
            seen.append(sorted(os.listdir(root + b"/e/d")))
            assert os.path.samestat(os.fstat(fd), os.lstat(root + b"/e/d"))
            return [*seen, os.lstat(root + b"/e/d/f").st_mode]

    same(act)


def test_a_working_directory(same):
    def act(root: bytes) -> list[Any]:
        def child() -> int:
            os.chdir(root + b"/d/sub")
            write(b"made", b"x")
            os.rename(root + b"/d", root + b"/e/d")
            expected = os.path.realpath(root) + b"/e/d/sub"
            os.chmod(b"deep", 0o600)
            return 0 if os.getcwdb() == expected and sorted(os.listdir(b"..")) else 1

        return [_in_child(child), sorted(os.listdir(root + b"/e/d/sub"))]

    assert same(act)[0] == 0
