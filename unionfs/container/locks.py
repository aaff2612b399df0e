"""The two locks of a container, flocks on files in its directory.

``mount.lock`` (exclusive, short): held while the container is being mounted, unmounted or removed.
``run.lock`` (shared, as long as a ``run`` lasts): who gets it exclusively knows that nobody runs.
Order: ``mount.lock`` first. A holder of ``run.lock`` may wait for ``mount.lock`` to leave, because
``run.lock`` is only ever tried, never waited for, by a holder of ``mount.lock``.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from unionfs.errors import ConflictError, NotFoundError
from unionfs.store.records import ContainerRecord
from unionfs.store.store import Store
from unionfs.syscalls.publish import locked


class GoneError(NotFoundError):
    """The container was removed while the command was waiting for it."""


class RunningError(ConflictError):
    """A ``run`` of the container has not ended."""


@contextmanager
def mount_lock(store: Store, container: ContainerRecord) -> Iterator[None]:
    """Hold the container's ``mount.lock``; it is certain to exist then.

    Raises GoneError if the container is removed meanwhile.
    """
    try:
        with locked(os.path.join(store.containers.path(container.id), "mount.lock")):
            _require(store, container)
            yield
    except FileNotFoundError as error:
        if os.path.isdir(store.containers.path(container.id)):
            raise
        raise GoneError(f"container {container.name} has been removed") from error


def hold_run_lock(store: Store, container: ContainerRecord) -> int:
    """Return a descriptor that holds ``run.lock`` shared; closing it lets go."""
    path = os.path.join(store.containers.path(container.id), "run.lock")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def is_last_runner(run_lock: int) -> bool:
    """Return whether nobody but the holder of *run_lock* runs; under ``mount.lock`` only."""
    try:
        fcntl.flock(run_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def refuse_while_running(store: Store, container: ContainerRecord) -> None:
    """Raise RunningError if a ``run`` of the container has not ended; under ``mount.lock`` only."""
    fd = hold_run_lock(store, container)
    try:
        if not is_last_runner(fd):
            raise RunningError(f"container {container.name} is running a command")
    finally:
        os.close(fd)


def _require(store: Store, container: ContainerRecord) -> None:
    try:
        store.containers.resolve(container.id)
    except NotFoundError as error:
        raise GoneError(f"container {container.name} has been removed") from error
