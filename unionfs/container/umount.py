"""Unmounting: by container or by mount point, and only what is ours."""

from __future__ import annotations

import os

from unionfs.container.locks import mount_lock, refuse_while_running
from unionfs.container.state import container_of_fsname, read_state
from unionfs.daemon import client
from unionfs.errors import ConflictError, NotFoundError
from unionfs.store.records import ContainerRecord
from unionfs.store.store import Store
from unionfs.syscalls.mount import mounts_at


class NotMountedError(ConflictError):
    """There is nothing of ours to unmount."""


def umount_container(store: Store, container: ContainerRecord) -> list[bytes]:
    """Unmount *container* wherever it is mounted; return the mount points.

    Raises NotMountedError, RunningError, ConflictError naming the processes that are in the way.
    """
    with mount_lock(store, container):
        mounted = read_state().of_container(container.id)
        if not mounted:
            raise NotMountedError(f"container {container.name} is not mounted")
        refuse_while_running(store, container)
        targets = [mount.target for mount in reversed(mounted)]
        for target in targets:
            client.unmount(target)
    return targets


def umount_target(store: Store | None, path: bytes) -> list[bytes]:
    """Unmount what is mounted on exactly *path*, living or dead; return it in a list.

    A container of *store* that is mounted there is unmounted as ``umount_container`` does. Raises
    NotMountedError, ConflictError.
    """
    target = client.resolve(path)
    there = mounts_at(target)
    container = None
    if there and store is not None:
        container = _container_of(store, os.fsdecode(there[-1].source))
    if container is not None and store is not None:
        return umount_container(store, container)
    if not client.is_ours(target):
        what = "is not a mount point of unionfs" if there else "is not mounted"
        raise NotMountedError(f"{os.fsdecode(path)} {what}")
    client.unmount(target)
    return [target]


def _container_of(store: Store, source: str) -> ContainerRecord | None:
    container_id = container_of_fsname(source)
    try:
        return store.containers.resolve(container_id) if container_id else None
    except NotFoundError:
        return None  # another store's
