"""The system calls at which a daemon or a command is killed, or told of an error; and doing it.

``changes`` holds for calls after which the disk, or what the caller knows, may be another: killed
at any other call, a process leaves what it leaves at the next of these. ``touches`` holds for every
call that reaches a filesystem, which may fail. Neither counts what a process does with its memory,
its threads, its pipes, and how it waits.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import TracebackType

from tests.support import ptrace
from tests.support.ptrace import Call


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CHANGING = _words(
    "mkdir mkdirat mknod mknodat symlink symlinkat link linkat unlink unlinkat rmdir rename "
    "renameat renameat2 chmod fchmod fchmodat fchmodat2 chown lchown fchown fchownat utime utimes "
    "utimensat futimesat setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr "
    "fremovexattr removexattrat truncate creat openat2 mount umount2 syncfs"
)
_CHANGING_BY_FD = _words(
    "write pwrite64 writev pwritev pwritev2 ftruncate fallocate fsync fdatasync sync_file_range "
    "sendfile"
)
_READING = _words(
    "access faccessat faccessat2 stat lstat newfstatat statx readlink readlinkat getxattr "
    "lgetxattr fgetxattr listxattr llistxattr flistxattr name_to_handle_at open_by_handle_at "
    "statfs open openat chdir"
)
_READING_BY_FD = _words("read pread64 readv preadv preadv2 getdents64 lseek fstat fstatfs flock")
_FICLONE, _SET_FLAGS, _GET_FLAGS = 0x40049409, 0x40086602, 0x80086601
_FUSE = b"/dev/fuse"
_OTHER_WORLDS = (b"/proc/", b"/sys/", b"/dev/", b"/memfd:")
_WAKE = signal.SIGURG  # ignored unless somebody asks for it

Counts = Callable[[Call], bool]


def changes(call: Call) -> bool:
    """Return whether *call* may change what the disk holds or what a caller has been told."""
    name = call.name
    if name in _CHANGING:
        return True
    if name in _CHANGING_BY_FD:
        return _on_disk(call) or (name.startswith("write") and call.opened() == _FUSE)
    if name in ("open", "openat"):
        return bool(call.args[1 + (name == "openat")] & (os.O_CREAT | os.O_TRUNC))
    if name == "copy_file_range":
        return _on_disk(call, 2)
    return name == "ioctl" and call.args[1] & 0xFFFFFFFF in (_FICLONE, _SET_FLAGS)


def touches(call: Call) -> bool:
    """Return whether *call* asks a filesystem for anything."""
    if call.name in _READING:
        return True
    if call.name in _READING_BY_FD:
        return _on_disk(call)
    if call.name == "ioctl" and call.args[1] & 0xFFFFFFFF == _GET_FLAGS:
        return True
    return changes(call) and not (call.name in _CHANGING_BY_FD and call.opened() == _FUSE)


def changes_disk(call: Call) -> bool:
    """Return whether *call* may change what the disk holds."""
    return touches(call) and changes(call)


def touches_or_answers(call: Call) -> bool:
    """Return whether *call* asks a filesystem for anything, or tells a caller of it."""
    return touches(call) or changes(call)


def reads(call: Call) -> bool:
    """Return whether *call* leaves the disk as it is, done or not."""
    return touches(call) and not changes(call)


def _on_disk(call: Call, position: int = 0) -> bool:
    """Return whether the descriptor at *position* is of a file or directory with a name."""
    opened = call.opened(position)
    return opened.startswith(b"/") and not opened.startswith(_OTHER_WORLDS)


def kill(call: Call) -> None:
    """Kill the process that is about to make *call*."""
    os.kill(call.pid, signal.SIGKILL)


def failing(number: int) -> Callable[[Call], None]:
    """Return what lets a call end with the errno *number*."""
    return lambda call: ptrace.fail(call, number)


class Trap:
    """While entered, waits in a thread of its own for the counted call number *at*, then acts.

    Counted are calls of *pid* for which *counts* holds, from 0 on; with *child*, those of the first
    process that it forks meanwhile instead. *act* is called once; with *at* None at each of them.
    ``sprung`` is the last call that it was called for, ``count`` how many were counted.
    """

    def __init__(
        self,
        pid: int,
        at: int | None,
        act: Callable[[Call], None],
        *,
        counts: Counts = changes,
        child: bool = False,
        family: bool = False,
    ) -> None:
        self._pid, self.number, self._act, self._counts = pid, at, act, counts
        self._child, self._family = child, family or child
        self.sprung: Call | None = None
        self.count = 0
        self._error: BaseException | None = None
        self._ready = threading.Event()
        self._calls: ptrace.Calls | None = None
        self._thread = threading.Thread(target=self._run, name="trap")

    def __enter__(self) -> Trap:
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType
    ) -> None:
        if self._calls is not None:
            self._calls.stop = True
            for pid in (self._pid, *self._calls.forked):
                _signal(pid, _WAKE)
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def _run(self) -> None:
        try:
            calls = self._calls = ptrace.Calls(self._pid, children=self._family)
            self._ready.set()
            for call in calls:
                if call.pid == self._whose(calls) and self._counts(call):
                    self._counted(call)
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    def _whose(self, calls: ptrace.Calls) -> int:
        if not self._child:
            return self._pid
        return calls.forked[0] if calls.forked else -1

    def _counted(self, call: Call) -> None:
        number = self.count
        self.count += 1
        if self.number is None or number == self.number:
            self.sprung = call
            self._act(call)

    @property
    def child(self) -> int:
        """The first process that was forked; -1 if none was."""
        return self._calls.forked[0] if self._calls is not None and self._calls.forked else -1

    def __str__(self) -> str:
        return f"{self.number}: {self.sprung.name if self.sprung else 'never'}"


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
