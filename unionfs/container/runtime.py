"""Running a process of a runtime configuration through crun, runc or bubblewrap.

Users: ``run``. A runtime either starts the process, and then its exit status is the process's, or
it does not, and then the next one may be tried: the two are told apart by what the runtime leaves
behind only once the process runs (crun and runc: the pid file; bubblewrap: the status document).
A signal that ended the runtime before that is no failure of it: then nothing else is tried.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unionfs.container.bubblewrap import bubblewrap_words
from unionfs.container.supervise import supervise
from unionfs.errors import UnavailableError

RUNTIMES = ("crun", "runc", "bubblewrap")
_PROGRAMS = {"crun": "crun", "runc": "runc", "bubblewrap": "bwrap"}
_CGROUP2 = "/sys/fs/cgroup/unified/cgroup.controllers"
# runc's own process 1, until it executes the program: "runc:[2:INIT]" (runc libcontainer/nsenter).
# A signal without a handler cannot end a process 1, so Go ends it with this status instead
# (Go runtime/signal_unix.go, dieFromSignal: "exit with the wrong status").
_RUNC_INIT = b"runc:["
_GO_UNABLE_TO_DIE = 2


class NoRuntimeError(UnavailableError):
    """There is no program that can run a container's process."""


class RuntimeFailedError(UnavailableError):
    """The runtime could not start the process; its own message stands above ours."""


@dataclass(frozen=True, slots=True)
class Job:
    """A process to run: the spec, the directory that holds it as config.json, the container."""

    spec: Mapping[str, Any]
    bundle: str
    name: str


def run_job(job: Job, wanted: str | None, note: Callable[[str], None]) -> int:
    """Run *job* and return the exit status of its process (128+n when signal n ended it).

    *wanted* is one of RUNTIMES, or None for the first that works; *note* is told in one line when
    one does not. Raises NoRuntimeError if none is installed, RuntimeFailedError if none starts it.
    """
    failures: list[str] = []
    for runtime in _candidates(wanted):
        trouble = _unfit(runtime, job.spec)
        if trouble is None:
            status = _START[runtime](_PROGRAMS[runtime], job)
            if status is not None:
                return status
            trouble = "could not start the process"
            note(f"{runtime} {trouble}")
        failures.append(f"{runtime}: {trouble}")
    raise RuntimeFailedError("; ".join(failures))


def _candidates(wanted: str | None) -> Sequence[str]:
    found = [name for name in ([wanted] if wanted else RUNTIMES) if shutil.which(_PROGRAMS[name])]
    if not found:
        names = wanted or "crun, runc or bubblewrap"
        raise NoRuntimeError(f"no container runtime: {names} is not installed")
    return found


def _unfit(runtime: str, spec: Mapping[str, Any]) -> str | None:
    """Return why *runtime* is known beforehand not to work here, None if it may.

    Saves its complaint from appearing on the screen of every run.
    """
    if runtime == "crun" and _hybrid_cgroups():
        return "does not work with hybrid cgroups (v1 with v2 controllers beside it)"
    user = spec["process"]["user"]
    if runtime == "bubblewrap" and (user["uid"] or user["gid"]):
        return f"cannot run a process as user {user['uid']}:{user['gid']}"
    return None


def _hybrid_cgroups() -> bool:
    """Return whether cgroup v2 is mounted beside v1 (crun src/libcrun/cgroup-utils.c)."""
    return os.path.exists(_CGROUP2)


def _start_oci(program: str, job: Job) -> int | None:
    """Run *job* through crun or runc; None if the process never started."""
    pid_file = os.path.join(job.bundle, f"{program}.pid")
    base = [program, "--root", os.path.join(job.bundle, program)]
    command = [*base, "run", "--pid-file", pid_file, "--bundle", job.bundle, job.name]
    early: list[int] = []

    def came(number: int) -> None:
        if not _program_is_there(pid_file):
            early.append(number)

    child = _spawn(command)
    try:
        # Both forward the signals that they get to the process.
        status = supervise(child, child.send_signal, came)
    finally:
        # Only a runtime that was killed leaves something for this to do.
        quiet = subprocess.DEVNULL
        delete = [*base, "delete", "--force", job.name]
        subprocess.run(delete, stdout=quiet, stderr=quiet, check=False)
    started = os.path.exists(pid_file) or status == 0
    if early and (not started or status == _GO_UNABLE_TO_DIE):
        return 128 + early[0]
    return status if started else None


def _program_is_there(pid_file: str) -> bool:
    """Return whether the process of *pid_file* runs the program by now, and not yet the runtime."""
    try:
        with open(pid_file, "rb") as file:
            pid = int(file.read())
        with open(f"/proc/{pid}/comm", "rb") as file:
            return not file.read().startswith(_RUNC_INIT)
    except (OSError, ValueError):
        return False  # not written yet, or ended already


def _start_bubblewrap(program: str, job: Job) -> int | None:
    """Run *job* through bubblewrap; None if the process never started."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with os.fdopen(reader, "rb") as statuses:
        try:
            child = _spawn([program, *bubblewrap_words(job.spec, writer)], writer)
        finally:
            os.close(writer)
        first = statuses.readline()
        inside = _child_pid(first)
        status = supervise(child, lambda number: _signal(inside, number))
        # bubblewrap reports an exit code only when the process was executed (bubblewrap.c,
        # report_child_exit_status); killed itself it reports nothing, and 128+n says so.
        started = b"exit-code" in statuses.read() or status > 128
    return status if started else None


_START: Mapping[str, Callable[[str, Job], int | None]] = {
    "crun": _start_oci,
    "runc": _start_oci,
    "bubblewrap": _start_bubblewrap,
}


def _spawn(command: Sequence[str], *descriptors: int) -> subprocess.Popen[bytes]:
    """Start *command* with our standard streams, the *descriptors*, nothing else, nothing blocked.

    Raises RuntimeFailedError if it cannot be executed.
    """
    try:
        return subprocess.Popen(command, pass_fds=descriptors, preexec_fn=_unblock_signals)
    except OSError as error:
        raise RuntimeFailedError(f"{command[0]}: {error.strerror}") from error


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _child_pid(line: bytes) -> int | None:
    try:
        document = json.loads(line)
    except ValueError:
        return None  # it ended before there was a child
    pid = document.get("child-pid")
    return pid if isinstance(pid, int) else None


def _signal(pid: int | None, number: int) -> None:
    if pid is not None:
        os.kill(pid, number)
