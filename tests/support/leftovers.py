"""What tests must not leave behind: FUSE mounts, and processes that outlive the run.

Processes are known by a mark in the environment that they were executed with. ``make test`` sets
it before Python starts, so that a daemon which was only forked carries it as well.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from typing import NamedTuple

from tests.support import kernel
from tests.support.stacks import IN_NAMESPACE
from unionfs.syscalls.mount import MNT_DETACH, MountEntry, mount_table, umount

MARK = "UNIONFS_TEST_SESSION"
_MARKED = MARK in os.environ  # before any test sets it


class Process(NamedTuple):
    """A process and the words that it was started with."""

    pid: int
    words: str


def mark_this_session() -> bytes:
    """Return the mark, an environment entry; sets one for child processes where make set none."""
    value = os.environ.setdefault(MARK, uuid.uuid4().hex)
    return f"{MARK}={value}".encode()


def fuse_mounts(under: bytes | None = None) -> list[MountEntry]:
    """Return the FUSE mounts below *under*, or all that this namespace sees, topmost last."""
    return [
        entry
        for entry in mount_table()
        if entry.kind.startswith(b"fuse") and entry.kind != b"fusectl"
        if under is None or entry.target.startswith(under + b"/")
    ]


def in_own_namespace() -> bool:
    """Tell whether every mount seen here is this run's own (``make test`` as root).

    Who set the mark before Python started gave it mounts as well: only where nobody did, it is to
    be found out. In a user namespace nobody may look; the one of the tests came with its own.
    """
    if kernel.own_mounts or (_MARKED and os.geteuid() == 0):
        return True
    try:
        return os.readlink("/proc/self/ns/mnt") != os.readlink("/proc/1/ns/mnt")
    except PermissionError:
        return IN_NAMESPACE


def marked_processes(mark: bytes) -> list[Process]:
    """Return the living processes with *mark* that are neither this one nor its ancestors."""
    family = set(_ancestors(os.getpid()))
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        if int(name) not in family and mark in _read(name, "environ").split(b"\0"):
            words = os.fsdecode(_read(name, "cmdline").replace(b"\0", b" ")).strip()
            found.append(Process(int(name), words or "(no command line)"))
    return found


def wait_for_none(mark: bytes, seconds: float) -> list[Process]:
    """Return the marked processes that are still there after *seconds*; daemons need a moment."""
    deadline = time.monotonic() + seconds
    while (left := marked_processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def clear(mounts: list[MountEntry], processes: list[Process]) -> None:
    """Take away what was left, so that one bad test does not spoil the machine."""
    for entry in reversed(mounts):
        try:
            umount(entry.target, MNT_DETACH)
        except OSError as error:
            print(f"cannot unmount {os.fsdecode(entry.target)}: {error.strerror}")
    for process in processes:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended by itself


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 0:
        yield pid
        pid = int(_read(str(pid), "stat").rpartition(b")")[2].split()[1])


def _read(pid: str, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except (ProcessLookupError, FileNotFoundError, PermissionError):
        return b""  # it ended meanwhile, or is another user's
