"""The two locks of a container, flocks on files in its directory.

``mount.lock`` (exclusive, short): held while the container is being mounted, unmounted or removed.
``run.lock`` (shared, as long as a ``run`` lasts): who gets it exclusively knows that nobody runs.
Order: ``mount.lock`` first. A holder of ``run.lock`` may wait for ``mount.lock`` to leave, because
``run.lock`` is only ever tried, never waited for, by a holder of ``mount.lock``.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from unionfs.errors import ConflictError, NotFoundError
from unionfs.store.records import ContainerRecord
from unionfs.store.store import Store
from unionfs.syscalls.publish import locked

_MOUNT = "mount.lock"
_RUN = "run.lock"
_SURE, _GLANCE = 0.1, 0.01  # seconds of trying


class GoneError(NotFoundError):
    """The container was removed while the command was waiting for it."""


class RunningError(ConflictError):
    """A ``run`` of the container has not ended."""


@contextmanager
def mount_lock(store: Store, container: ContainerRecord) -> Iterator[None]:
    """Hold the container's ``mount.lock``; it is certain to exist then.

    Raises GoneError if the container is removed meanwhile.
    """
    with mount_lock_in(store.containers.path(container.id), container.name):
        _require(store, container)
        yield


@contextmanager
def mount_lock_in(home: str, name: str) -> Iterator[None]:
    """Hold the ``mount.lock`` of the container *name* in *home*, without asking the database.

    Enough for unmounting, which must be possible whatever became of the database. Raises GoneError
    if *home* is not there.
    """
    try:
        with locked(os.path.join(home, _MOUNT)):
            os.stat(home)
            yield
    except FileNotFoundError as error:
        if os.path.isdir(home):
            raise
        raise GoneError(f"container {name} has been removed") from error


def hold_run_lock(store: Store, container: ContainerRecord) -> int:
    """Return a descriptor that holds ``run.lock`` shared; closing it lets go."""
    path = os.path.join(store.containers.path(container.id), _RUN)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def is_last_runner(run_lock: int) -> bool:
    """Return whether nobody but the holder of *run_lock* runs; under ``mount.lock`` only.

    The shared lock is gone afterwards either way: flock(2) gives it up before it tries.
    """
    return _try_exclusive(run_lock, _SURE)


def is_running(store: Store, container: ContainerRecord) -> bool:
    """Return whether a ``run`` of *container* seems to go on, without ``mount.lock``."""
    return _is_running(store.containers.path(container.id), _GLANCE)


def refuse_while_running(store: Store, container: ContainerRecord) -> None:
    """Raise RunningError if a ``run`` of *container* has not ended; under ``mount.lock``."""
    refuse_while_running_in(store.containers.path(container.id), container.name)


def refuse_while_running_in(home: str, name: str) -> None:
    """Raise RunningError if a ``run`` of the container *name* in *home* has not ended."""
    if _is_running(home, _SURE):
        raise RunningError(f"container {name} is running a command")


def _is_running(home: str, patience: float) -> bool:
    try:
        fd = os.open(os.path.join(home, _RUN), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try_exclusive(fd, patience)
    finally:
        os.close(fd)


def _try_exclusive(fd: int, patience: float) -> bool:
    """Return whether *fd* can be locked exclusively within *patience* seconds.

    More than one try, because whoever looks (``ls``) holds the lock for an instant too.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.002)


def _require(store: Store, container: ContainerRecord) -> None:
    try:
        store.containers.resolve(container.id)
    except NotFoundError as error:
        raise GoneError(f"container {container.name} has been removed") from error
