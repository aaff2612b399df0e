"""What an ordinary user runs: a user namespace first, the mount and the program inside it.

In the namespace he is root, and a mount that is made there shows owners as the program sees them.
With subordinate IDs (subuid(5)) it has the other users of a container too, without them root alone:
then everything is shown as root's. The mount namespace goes with its last process, and the mount
with it; from outside the mount cannot be seen. A second run of the same container joins the first.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import NoReturn

from unionfs.container.state import read_state
from unionfs.container.supervise import signals_held, supervise
from unionfs.errors import UnavailableError, UnionfsError
from unionfs.syscalls.interrupt import Interrupted
from unionfs.syscalls.namespace import (
    Range,
    enter_user_and_mount_namespace,
    join_user_and_mount_namespace,
    map_root_only,
    subordinate_ids,
)

_TOOLS = ("newuidmap", "newgidmap")


class NoNamespaceError(UnavailableError):
    """The machine does not let this user have a user namespace."""


class FailedInsideError(UnionfsError):
    """What was to be done in the namespace failed; with the exit status of its own error."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def needed() -> bool:
    """Return whether this process needs a user namespace to be root in a container."""
    return os.geteuid() != 0


def where_mounted(container_id: str) -> int | None:
    """Return a process of this user in whose mount namespace the container is mounted for a run.

    Its daemon, that is; None if there is none.
    """
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            if os.stat(f"/proc/{name}").st_uid != os.geteuid() or not _is_daemon(name):
                continue
            if read_state(f"/proc/{name}/mountinfo").of_container(container_id):
                return int(name)
        except OSError:
            continue  # it has just ended, or shows nothing of itself
    return None


def _is_daemon(pid: str) -> bool:
    with open(f"/proc/{pid}/comm", "rb") as name:
        return name.read() == b"unionfs\n"


def run_inside(work: Callable[[], int], *, beside: int | None = None) -> int:
    """Call *work* in a child that is root of a user namespace; return the status it returns.

    The namespaces are new ones, or those of the process *beside*. Signals that come meanwhile go to
    the child. Raises FailedInsideError with the message of a UnionfsError of *work*'s,
    NoNamespaceError.
    """
    ready, to_parent = os.pipe2(os.O_CLOEXEC)
    from_parent, go = os.pipe2(os.O_CLOEXEC)
    with signals_held():
        pid = os.fork()
        if pid == 0:
            os.close(ready)
            os.close(go)
            _child(work, beside, to_parent, from_parent)
        os.close(to_parent)
        os.close(from_parent)
        child = _Child(pid)
        with os.fdopen(ready, "rb") as answers, os.fdopen(go, "wb", 0) as answer:
            if answers.readline() == b"entered\n":
                answer.write(b"mapped\n" if _map_subordinate(pid) else b"alone\n")
            status = supervise(child, child.send)
            failure = answers.read()
    if failure:
        raise _unpacked(failure)
    return status


class _Child:
    """A forked child, as ``supervise`` wants it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def send(self, number: int) -> None:
        """Send it a signal; ProcessLookupError once it is gone."""
        if self.poll() is not None:
            raise ProcessLookupError
        os.kill(self._pid, number)


def _child(
    work: Callable[[], int], beside: int | None, to_parent: int, from_parent: int
) -> NoReturn:
    """Enter the namespace, do *work*, and exit with its status. Errors go to the parent."""
    status = 1
    try:
        if beside is None:
            _enter(to_parent, from_parent)
        else:
            _join(beside)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        status = work()
    except Interrupted as interruption:
        status = interruption.status
    except UnionfsError as error:
        _send(to_parent, str(error), error.exit_status)
    except OSError as error:
        _send(to_parent, str(error), 1)
    finally:
        os._exit(status)


def _send(to_parent: int, message: str, status: int) -> None:
    os.write(to_parent, json.dumps([message, status]).encode())


def _unpacked(failure: bytes) -> FailedInsideError:
    message, status = json.loads(failure)
    return FailedInsideError(message, status)


def _enter(to_parent: int, from_parent: int) -> None:
    """Enter the namespaces; the parent gives them IDs, or there is only root."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        enter_user_and_mount_namespace()
    except OSError as error:
        raise NoNamespaceError(
            f"this machine gives you no user namespace to run in: {error.strerror}"
        ) from error
    os.write(to_parent, b"entered\n")
    with os.fdopen(from_parent, "rb") as answers:
        mapped = answers.readline() == b"mapped\n"
    if not mapped:
        map_root_only(uid, gid)
    else:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        os.setgroups([])


def _join(pid: int) -> None:
    """Enter the namespaces of the process *pid*, where somebody else is root already."""
    try:
        join_user_and_mount_namespace(pid)
    except OSError as error:
        raise NoNamespaceError(f"cannot join the other run of it: {error.strerror}") from error
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _map_subordinate(pid: int) -> bool:
    """Give the namespace of *pid* this user's subordinate IDs; False where that is impossible."""
    name = _name()
    users = subordinate_ids("/etc/subuid", name, os.geteuid())
    groups = subordinate_ids("/etc/subgid", name, os.geteuid())
    if not users or not groups or not all(map(shutil.which, _TOOLS)):
        return False
    return _mapped("newuidmap", pid, os.geteuid(), users) and _mapped(
        "newgidmap", pid, os.getegid(), groups
    )


def _name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def _mapped(tool: str, pid: int, own: int, ranges: Sequence[Range]) -> bool:
    """Map root to *own* and the IDs from 1 on to *ranges*, by the set-user-ID program *tool*."""
    words, inside = ["0", str(own), "1"], 1
    for first, size in ranges:
        words += [str(inside), str(first), str(size)]
        inside += size
    done = subprocess.run([tool, str(pid), *words], capture_output=True, check=False)
    return done.returncode == 0
