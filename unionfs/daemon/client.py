"""For whoever unmounts, or asks a daemon: what is mounted where, who keeps it busy, how to wait.

The mount table is read only when a path turns out to be a mount point: it costs an import of
ctypes, which a plain mount has no other use for before it forks.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from unionfs.errors import ConflictError, NotFoundError, UnionfsError

if TYPE_CHECKING:
    import socket

    from unionfs.options import MountConfig
    from unionfs.syscalls.mount import MountEntry

KIND = b"fuse.unionfs"  # the type in the mount table: libfuse writes fuse.SUBTYPE
NAME = "unionfs"  # what our daemons are called in ps(1)
_FUSERMOUNT = "fusermount3"
_LONG = 600.0  # seconds for a frozen mount to compare what it has with other layers
_SHORT = 30.0  # seconds for going on there, while the store's database waits
_NO_WORDS: Mapping[str, object] = {}
_SETTLE = 1.0  # seconds for a mount that is busy with nobody in it: a close may be under way
DEAD = (errno.ENOTCONN, errno.ECONNABORTED)  # what a mount answers when its daemon is gone


class NotMountedError(NotFoundError):
    """There is no mount of unionfs to unmount."""


class BusyError(ConflictError):
    """The mount is in use."""


class FrozenError(UnionfsError):
    """A mount's daemon does not stop answering for a while, as it was asked to."""


class CannotGoOnError(ConflictError):
    """A mount does not go on on other layers."""


class UnmountError(UnionfsError):
    """fusermount3 did not unmount, for a reason of its own."""


def resolve(target: bytes) -> bytes:
    """Return *target* absolute and without links; a dead mount at its end does not matter.

    An empty one stays so, and is found nowhere: to realpath(3) it would be the working directory.
    """
    return os.path.realpath(target) if target else b""


def is_mount_point(point: bytes) -> bool:
    """Return whether another file system than its parent's begins at *point* (resolved)."""
    try:
        here = os.stat(point)
    except OSError as error:
        return error.errno in DEAD
    return here.st_dev != os.stat(os.path.dirname(point)).st_dev


def is_ours(target: bytes) -> bool:
    """Return whether what is mounted on *target* (topmost) is a mount of unionfs."""
    return _ours(resolve(target)) is not None


def stale(target: bytes) -> bool:
    """Return whether *target* is a mount of unionfs whose daemon is gone."""
    point = resolve(target)
    try:
        os.statvfs(point)  # not stat, which the kernel may answer from its cache
    except OSError as error:
        return error.errno in DEAD and is_ours(point)
    return False


def unmount(target: bytes, *, lazy: bool = False) -> None:
    """Unmount the mount of unionfs on *target*; with *lazy* detach it even if it is in use.

    A stale mount is always detached. Raises NotMountedError; BusyError naming the processes and
    mounts that use it; UnmountError or OSError for any other reason.
    """
    point = resolve(target)
    entry = _ours(point)
    if entry is None:
        raise NotMountedError(f"{os.fsdecode(target)} is not a mount of unionfs")
    detach = lazy or stale(point)
    deadline = time.monotonic() + _SETTLE
    while not _unmount_once(point, detach):
        users = _users(entry)
        if users or time.monotonic() > deadline:
            reason = users or "something that cannot be seen from here"
            raise BusyError(f"{os.fsdecode(target)} is in use by {reason}")
        time.sleep(0.05)


def wait_gone(pid: int, seconds: float = 10.0) -> bool:
    """Wait up to *seconds* for the daemon *pid* to end; return whether it did.

    Reaps it if it is this process's own child.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        gone = bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)
    if gone:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass  # somebody else's child
    return gone


class Frozen:
    """A mount that answers nothing, through the *connection* to its daemon."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def thaw(self) -> None:
        """Let the mount go on; for good."""
        self._connection.close()

    def prepare(self, stack: MountConfig) -> None:
        """Have it get ready to be on the directories of *stack*. Raises CannotGoOnError."""
        request = {
            "upper": os.fsdecode(stack.upperdir or b""),
            "work": os.fsdecode(stack.workdir or b""),
            "lowers": [os.fsdecode(path) for path in stack.lowerdirs],
            "names": stack.lower_names,
        }
        self._ask("prepare", request, _LONG)

    def go_on(self, offered: str, taken: str) -> None:
        """Have it be on them, if the file *offered* is there, which is called *taken* then.

        Raises CannotGoOnError, also where it is not known whether it is.
        """
        self._ask("go_on", {"offered": offered, "taken": taken}, _SHORT)

    def _ask(self, name: str, words: Mapping[str, object], seconds: float) -> None:
        try:
            self._connection.settimeout(seconds)
            _ask(self._connection, name, words)
        except (OSError, FrozenError) as error:
            reason = _reason(error)
            raise CannotGoOnError(f"the mount does not go on: {reason}") from error


@contextmanager
def frozen(control: bytes, seconds: float = 60.0) -> Iterator[Frozen]:
    """Have the mount whose daemon takes requests at *control* answer nothing during the block.

    So long as what is yielded is not told to thaw it, and this process lives. Nothing in the block
    may look at the mount. Raises FrozenError where the daemon does not come to rest within
    *seconds*.
    """
    import socket

    directory, name = os.path.split(control)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            try:
                connection.connect(b"/proc/self/fd/%d/%s" % (fd, name))  # of any length: unix(7)
                _ask(connection, "freeze")
            except (OSError, FrozenError) as error:
                reason = _reason(error)
                raise FrozenError(f"the daemon does not let its mount rest: {reason}") from error
            yield Frozen(connection)
    finally:
        os.close(fd)


def _reason(error: OSError | FrozenError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _ask(connection: socket.socket, request: str, words: Mapping[str, object] = _NO_WORDS) -> None:
    """Send *request* with *words*, and wait until it is done.

    Raises OSError, and FrozenError with the daemon's reason.
    """
    import json

    connection.sendall(json.dumps({"do": request, **words}).encode() + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        data = connection.recv(4096)
        if not data:
            raise FrozenError("its daemon has given up")
        answer += data
    answered = json.loads(answer)
    if answered.get("done") != request:
        raise FrozenError(str(answered.get("error")))


def fusermount() -> str | None:
    """Return the path of fusermount3, which unmounts (and mounts) for ordinary users."""
    for directory in os.get_exec_path():
        path = os.path.join(directory, _FUSERMOUNT)
        if os.access(path, os.X_OK):
            return path
    return None


def serving(entry: MountEntry) -> list[int]:
    """Return the pids of the visible processes that answer for the FUSE mount *entry*."""
    from unionfs.daemon.holders import servers

    return servers(entry, NAME)


def _ours(point: bytes) -> MountEntry | None:
    from unionfs.syscalls.mount import mounts_at

    mounts = mounts_at(point)
    return mounts[-1] if mounts and _is_our_kind(mounts[-1]) else None


def _is_our_kind(entry: MountEntry) -> bool:
    """Return whether a mount is ours: by its type, else (``-o subtype``) by who answers for it."""
    if not entry.kind.startswith(b"fuse.") or entry.kind == KIND:
        return entry.kind == KIND
    return bool(serving(entry))


def _unmount_once(point: bytes, detach: bool) -> bool:
    """Unmount *point*; return whether it worked, False for busy. Raises OSError, UnmountError."""
    from unionfs.syscalls.mount import MNT_DETACH, UMOUNT_NOFOLLOW, umount

    try:
        umount(point, UMOUNT_NOFOLLOW | (MNT_DETACH if detach else 0))
        return True
    except PermissionError:
        return _fusermount_once(point, detach)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise


def _fusermount_once(point: bytes, detach: bool) -> bool:
    import subprocess

    program = fusermount()
    if program is None:
        where = os.fsdecode(point)
        raise UnmountError(f"only root unmounts {where} without fusermount3: install package fuse3")
    words: list[str | bytes] = [program, "-u", *(["-z"] if detach else []), "--", point]
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(words, env=environment, capture_output=True, check=False)
    if done.returncode == 0:
        return True
    if b"busy" in done.stderr:
        return False
    raise UnmountError(" ".join(done.stderr.decode(errors="replace").split()))


def _users(entry: MountEntry) -> str:
    """Return in words who uses the mount *entry*: processes, mounts below it; "" for nobody."""
    from unionfs.daemon.holders import holders
    from unionfs.syscalls.mount import mount_table

    below = [f"the mount {os.fsdecode(m.target)}" for m in _children(entry, mount_table())]
    named = below + [f"{name} ({pid})" for pid, name in holders(entry)]
    shown = ", ".join(named[:5])
    return f"{shown} and {len(named) - 5} more" if len(named) > 5 else shown


def _children(entry: MountEntry, table: list[MountEntry]) -> list[MountEntry]:
    return [m for m in table if m.parent_id == entry.mount_id]
