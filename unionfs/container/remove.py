"""Throwing a container away: its row, then its upper; the image is untouched."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable

from unionfs.container.locks import mount_lock, refuse_while_running
from unionfs.container.state import read_state
from unionfs.daemon import client
from unionfs.errors import ConflictError
from unionfs.store.inuse import users
from unionfs.store.records import ContainerRecord
from unionfs.store.store import Store

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATIENCE = 2.0  # seconds; whoever was detached by force may stay for ever
LEAVING = 10.0  # seconds for a daemon that was told to leave: as long as another mount waits for it


class StillMountedError(ConflictError):
    """The container is mounted, seen from here or not, and removing it was not to be forced."""


def remove(
    store: Store,
    container: ContainerRecord,
    *,
    force: bool = False,
    note: Callable[[str], None],
    patience: float = _PATIENCE,
) -> None:
    """Remove *container* with everything that was changed in it.

    While it is mounted that takes *force*, which unmounts it; where processes are in the way, it is
    detached and *note* is told who they are. A mount in another namespace (``namespace``) cannot be
    unmounted from here. Up to *patience* seconds it waits for a daemon that is leaving. Raises
    StillMountedError, RunningError.
    """
    if not os.path.isdir(store.containers.path(container.id)):
        store.containers.remove(container.id)  # its data is lost already, only the row is left
        return
    with mount_lock(store, container):
        if not (force and read_state().of_container(container.id)):
            refuse_while_running(store, container)
        _leave_mounts(container, force, note)
        if not _await_daemon(store, container, patience) and not force:
            raise StillMountedError(
                f"container {container.name} is still mounted somewhere (daemon: "
                f"{_daemons(store, container)}): unmount it first, or remove it with --force"
            )
        store.containers.remove(container.id)


def _daemons(store: Store, container: ContainerRecord) -> str:
    pids = users(_work(store, container))
    return " ".join(map(str, pids)) or "not to be seen from here"


def _work(store: Store, container: ContainerRecord) -> str:
    return os.path.join(store.containers.path(container.id), "work")


def _await_daemon(store: Store, container: ContainerRecord, patience: float) -> bool:
    """Wait up to *patience* seconds for a daemon that is leaving, and return whether it left.

    It holds a flock on the work directory, whatever mount namespace it mounted in.
    """
    try:
        work = os.open(_work(store, container), _DIRECTORY)
    except FileNotFoundError:
        return True  # then nothing can be mounted with it
    deadline = time.monotonic() + patience
    try:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(work, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                time.sleep(0.02)
        return False
    finally:
        os.close(work)


def _leave_mounts(container: ContainerRecord, force: bool, note: Callable[[str], None]) -> None:
    for mounted in reversed(read_state().of_container(container.id)):
        if not force and not client.stale(mounted.target):
            raise StillMountedError(
                f"container {container.name} is mounted at {mounted.shown}: "
                f"unmount it first, or remove it with --force"
            )
        try:
            client.unmount(mounted.target)
        except ConflictError as error:
            note(f"{error}; detached it all the same")
            client.unmount(mounted.target, lazy=True)
