"""Having a container mounted for as long as somebody needs it: ``run`` and ``bundle``.

The first that needs it mounts it, marked as made for running; the last unmounts it. A mount that
the user made is used and left alone. What is to be undone is read from the mount table, so an
interruption at any point is undone as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from unionfs.container.locks import (
    GoneError,
    hold_run_lock,
    is_last_runner,
    mount_lock,
    mount_lock_in,
)
from unionfs.container.mount import Wish, clear_dead_mounts, plan_container
from unionfs.container.state import Mounted, read_state
from unionfs.container.supervise import signals_held
from unionfs.daemon import client
from unionfs.errors import ConflictError
from unionfs.store.records import ContainerRecord
from unionfs.store.store import Store
from unionfs.syscalls.interrupt import Interrupted, let_go


@contextmanager
def mounted(
    root: str, container: ContainerRecord, note: Callable[[str], None]
) -> Iterator[Mounted]:
    """Yield the mount of *container* in the store at *root*, made now if there is none.

    At the end it is unmounted again if this made it and nobody else runs in it; *note* is told in
    one line if processes were in the way. Raises UnionfsError if it cannot be mounted.
    """
    run_lock: int | None = None
    try:
        with Store.open(root) as store, mount_lock(store, container), signals_held():
            # Held, so that no signal comes between taking the lock and knowing of it: the
            # container could not be removed then, as if somebody else ran in it.
            home = store.containers.path(container.id)
            run_lock = hold_run_lock(store, container)
        _enter(root, container)
        yield read_state().of_container(container.id)[-1]
    except Interrupted as interruption:
        let_go(interruption)
        raise
    finally:
        if run_lock is not None:
            with signals_held():
                _leave(home, container, run_lock, note)
                os.close(run_lock)


def _enter(root: str, container: ContainerRecord) -> None:
    with Store.open(root) as store, mount_lock(store, container):
        if clear_dead_mounts(container):
            return
        plan = plan_container(store, container, None, Wish(transient=True))
        store.close()
        plan.start()


def _leave(
    home: str, container: ContainerRecord, run_lock: int, note: Callable[[str], None]
) -> None:
    try:
        with mount_lock_in(home, container.name):
            if is_last_runner(run_lock):
                _unmount_transient(container, note)
    except GoneError:
        pass  # removed by force meanwhile, with its mounts


def _unmount_transient(container: ContainerRecord, note: Callable[[str], None]) -> None:
    for mount in read_state().of_container(container.id):
        if not mount.transient:
            continue
        try:
            client.unmount(mount.target)
        except ConflictError as error:
            note(f"{error}; detached it all the same")
            client.unmount(mount.target, lazy=True)
