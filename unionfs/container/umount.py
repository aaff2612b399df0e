"""Unmounting: by container or by mount point, and only what is ours."""

from __future__ import annotations

import os
import re

from unionfs.container.locks import mount_lock_in, refuse_while_running_in
from unionfs.container.state import container_of_fsname, read_state
from unionfs.daemon import client
from unionfs.errors import ConflictError
from unionfs.store.layout import Layout
from unionfs.store.records import ContainerRecord
from unionfs.store.store import Store
from unionfs.syscalls.mount import mounts_at

_ID = re.compile("[0-9a-f]{64}")


class NotMountedError(ConflictError):
    """There is nothing of ours to unmount."""


def umount_container(store: Store, container: ContainerRecord) -> list[bytes]:
    """Unmount *container* wherever it is mounted; return the mount points.

    Raises NotMountedError, RunningError, ConflictError naming the processes that are in the way.
    """
    return _umount_all(store.containers.path(container.id), container.id, container.name)


def umount_target(layout: Layout, path: bytes) -> list[bytes]:
    """Unmount what is mounted on exactly *path*, living or dead; return it in a list.

    A container of the store at *layout* that is mounted there is unmounted as
    ``umount_container`` does. The store's database is not asked: whatever became of it, a mount
    can be left. Raises NotMountedError, ConflictError.
    """
    target = client.resolve(path)
    there = mounts_at(target)
    container_id = container_of_fsname(os.fsdecode(there[-1].source)) if there else None
    if container_id is not None and _ID.fullmatch(container_id):
        home = layout.container(container_id)
        if os.path.isdir(home):
            return _umount_all(home, container_id, container_id[:12])
    if not client.is_ours(target):
        what = "is not a mount point of unionfs" if there else "is not mounted"
        raise NotMountedError(f"{os.fsdecode(path)} {what}")
    client.unmount(target)
    return [target]


def _umount_all(home: str, container_id: str, name: str) -> list[bytes]:
    with mount_lock_in(home, name):
        mounted = read_state().of_container(container_id)
        if not mounted:
            raise NotMountedError(f"container {name} is not mounted")
        refuse_while_running_in(home, name)
        targets = [mount.target for mount in reversed(mounted)]
        for target in targets:
            client.unmount(target)
    return targets
