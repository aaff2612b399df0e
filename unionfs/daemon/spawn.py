"""For whoever mounts: a daemon in the background, or the mount in this process.

The daemon is a fork of the caller, made before trio and pyfuse3 are imported, which then costs the
caller nothing. Life of a start: the mount point is checked; the fork detaches itself, mounts and
says so over the readiness pipe; the caller sees that the mount answers and returns.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace

from unionfs.daemon import client, logs, mountpoint, report, serve
from unionfs.daemon.serve import SessionFactory
from unionfs.errors import UnionfsError
from unionfs.options import MountConfig, absolute, has_relative

_LAST_SECONDS = 2.0  # for a daemon that was told to leave, before it is killed
_started: list[tuple[int, bytes]] = []  # this process's daemons and their mount points


class DaemonDiedError(UnionfsError):
    """The daemon ended before the mount answered, without telling why."""


def start(
    config: MountConfig,
    target: bytes,
    *,
    log: bytes | None,
    control: bytes | None = None,
    allow_nonempty: bool = False,
    factory: SessionFactory | None = None,
) -> int:
    """Mount *config* on the directory *target* and return the daemon's pid.

    Relative paths count from the working directory. *log* is a file for the daemon's log, None the
    system log; *control* (absolute) where the daemon takes requests, None: it takes none;
    *allow_nonempty* lets the mount hide what *target* holds; *factory* makes another
    session than FUSE's. Raises what ``mountpoint`` raises, the daemon's reason as the branch of
    UnionfsError that it was, and DaemonDiedError; then nothing is mounted. RuntimeError in a
    process that must not fork: within trio's loop, or with other threads.
    """
    _refuse_unsafe_fork()
    mountpoint.check_machine(config)
    point = mountpoint.prepare(target, allow_nonempty=allow_nonempty)
    config = _from_here(config)
    log = None if log is None else _below_cwd(log)
    before = os.stat(point).st_dev
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = -1
    try:
        with serve.blocked(serve.STOP):
            pid = os.fork()
            if pid == 0:
                serve.run(
                    config,
                    point,
                    log=log,
                    report_fd=writing,
                    factory=factory,
                    control=control,
                )
        os.close(writing)
        _await_mount(reading, pid, point, before, log)
    except BaseException:
        if pid > 0:
            _undo(pid, point)
        raise
    finally:
        os.close(reading)
    _started.append((pid, point))
    return pid


def undo() -> None:
    """End what this process has started: nobody is left who could be told of it."""
    while _started:
        _undo(*_started.pop())


def run_foreground(
    config: MountConfig,
    target: bytes,
    *,
    debug: bool,
    control: bytes | None = None,
    allow_nonempty: bool = False,
    factory: SessionFactory | None = None,
) -> None:
    """Mount *config* on *target* and serve it in this process until it is unmounted or a signal.

    The log goes to standard error, all of it with *debug*. Raises as ``start``, and whatever else
    ends the service.
    """
    mountpoint.check_machine(config)
    point = mountpoint.prepare(target, allow_nonempty=allow_nonempty)
    logs.to_stderr(debug=debug)
    config = replace(_from_here(config), debug=debug)
    serve.live(
        config,
        point,
        lambda: None,
        signals=serve.HANGUP,
        factory=factory,
        control=control,
    )


def _from_here(config: MountConfig) -> MountConfig:
    return absolute(config, os.getcwdb()) if has_relative(config) else config


def _below_cwd(path: bytes) -> bytes:
    return path if path.startswith(b"/") else os.getcwdb() + b"/" + path


def _refuse_unsafe_fork() -> None:
    """Raise RuntimeError where a fork would copy locks that others hold, or a running loop."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        raise RuntimeError("a daemon must not be forked within trio's loop")
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("a daemon must not be forked from a process with several threads")


def _await_mount(reading: int, pid: int, point: bytes, before: int, log: bytes | None) -> None:
    """Return when the mount on *point* answers; *before* is the device that was there."""
    message = report.receive(reading)
    if not message:
        raise _died(pid, point, log)
    if message != report.READY:
        raise report.unpack(message)
    try:
        os.statvfs(point)  # never answered from a cache
        after = os.stat(point).st_dev
    except OSError as error:
        raise _died(pid, point, log) from error
    if after == before:
        raise _died(pid, point, log)


def _died(pid: int, point: bytes, log: bytes | None) -> DaemonDiedError:
    return DaemonDiedError(
        f"the daemon {pid} for {os.fsdecode(point)} ended before the mount answered: "
        f"{logs.place(log)} may say why"
    )


def _undo(pid: int, point: bytes) -> None:
    """See that the daemon *pid*, this process's child, is gone and has left no mount."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.kill(pid, number)  # a zombie takes it too: nobody else reaps it
        if client.wait_gone(pid, _LAST_SECONDS):
            break
    if client.stale(point):
        client.unmount(point, lazy=True)
