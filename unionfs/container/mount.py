"""Mounting a container, or an image read-only with no container behind it.

Two steps, so that the store is closed and little is imported when the daemon is forked: a *plan*
is made with the store open, and carried out without it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from unionfs.container.indexing import index_path
from unionfs.container.layers import lower_layers
from unionfs.container.locks import mount_lock, refuse_while_running
from unionfs.container.state import Mounted, container_fsname, image_fsname, read_state
from unionfs.daemon import client, spawn
from unionfs.digest import Digest
from unionfs.errors import ConflictError, UsageError
from unionfs.ondisk.flavour import Flavour
from unionfs.options import MountConfig, apply_options, defaults
from unionfs.store.records import ContainerRecord, ImageRecord
from unionfs.store.store import Store
from unionfs.syscalls import selinux

CONTROL = b"control"  # in a container's directory: the socket of its daemon
# Fields that the store decides, with the option of each, which `-o` may not have then.
_STORE_S = {
    "lowerdirs": "lowerdir",
    "upperdir": "upperdir",
    "workdir": "workdir",
    "userxattr": "userxattr",
    "fsname": "fsname",
    "subtype": "subtype",
}


class AlreadyMountedError(ConflictError):
    """The container is mounted, and its upper can have one mount at a time."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How a mount is wanted: the ``-o`` words, read-only, made by ``run`` for itself."""

    options: Sequence[str] = ()
    read_only: bool = False
    transient: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A mount that can be made: what, where (absolute), with which log file and control socket."""

    config: MountConfig
    target: bytes
    log: bytes | None
    control: bytes | None = None

    def start(self) -> None:
        """Start the daemon; returns when the mount answers. Raises UnionfsError."""
        spawn.start(self.config, self.target, log=self.log, control=self.control)

    def serve(self, *, debug: bool = False) -> None:
        """Serve the mount in this process until it is unmounted. Raises UnionfsError."""
        spawn.run_foreground(self.config, self.target, debug=debug, control=self.control)


def mount_container(
    store: Store, container: ContainerRecord, target: bytes | None, wish: Wish
) -> bytes:
    """Mount *container* and return its mount point, once it answers.

    Closes the store: nothing of it may be carried across the daemon's fork. Raises as
    ``plan_container``, and UnionfsError with the daemon's reason.
    """
    with mount_lock(store, container):
        plan = plan_container(store, container, target, wish)
        store.close()
        plan.start()
    return plan.target


def plan_container(
    store: Store, container: ContainerRecord, target: bytes | None, wish: Wish
) -> Plan:
    """Return the plan for mounting *container* on *target* (None: its own ``merged`` directory).

    To be called under ``mount_lock``. Raises AlreadyMountedError, RunningError, UsageError for the
    options.
    """
    container = store.containers.resolve(container.id)  # its image may have become another one
    home = os.fsencode(store.containers.path(container.id))
    for mounted in clear_dead_mounts(container):
        if mounted.transient:
            refuse_while_running(store, container)
        raise AlreadyMountedError(
            f"container {container.name} is already mounted at {mounted.shown}"
        )
    if not wish.transient:
        refuse_while_running(store, container)  # in a namespace of its own: see ``namespace``
    if target is None:
        target = os.path.join(home, b"merged")
    config = replace(
        _configure(store, container.image_id, wish),
        upperdir=os.path.join(home, b"upper"),
        workdir=os.path.join(home, b"work"),
        fsname=container_fsname(container.id, transient=wish.transient),
    )
    log, control = os.path.join(home, b"log"), os.path.join(home, CONTROL)
    return Plan(config, client.resolve(target), log, control)


def plan_image(store: Store, image: ImageRecord, target: bytes, wish: Wish) -> Plan:
    """Return the plan for mounting *image* read-only on *target*.

    Raises UsageError for the options.
    """
    config = _configure(store, image.id, replace(wish, read_only=True))
    named = replace(config, fsname=image_fsname(image.id.hex))
    return Plan(named, client.resolve(target), None)


def clear_dead_mounts(container: ContainerRecord) -> Sequence[Mounted]:
    """Clear away mounts of *container* whose daemon died; return those that answer."""
    for mounted in read_state().of_container(container.id):
        if client.stale(mounted.target):
            client.unmount(mounted.target, lazy=True)
    return read_state().of_container(container.id)


def _configure(store: Store, image_id: Digest, wish: Wish) -> MountConfig:
    """Return the configuration that an image's layers and *wish* make, without upper and name."""
    privileged = os.geteuid() == 0
    plain = defaults(privileged=privileged)
    config = apply_options(plain, wish.options, privileged=privileged)
    for name, option in _STORE_S.items():
        if getattr(config, name) != getattr(plain, name):
            raise UsageError(f"-o {option}: the store decides this for its mounts")
    if config.context is not None and not selinux.enabled():
        raise UsageError("-o context: this machine has no SELinux")
    for option in config.ignored:
        if not apply_options(plain, [option], privileged=True).ignored:
            raise UsageError(f"-o {option}: only root's mounts can have this")
        raise UsageError(f"-o {option}: unknown option (see: unionfs mount --help)")
    image = store.images.get(image_id)
    lowers, names = lower_layers(store, image)
    return replace(
        config,
        lowerdirs=lowers,
        index=index_path(store, image),
        lower_names=names,
        userxattr=store.flavour is Flavour.USER,
        read_only=config.read_only or wish.read_only,
    )
