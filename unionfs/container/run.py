"""``run``: a process in a container, from finding or making the container to leaving nothing."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from unionfs.container import namespace
from unionfs.container.bundle import CONFIG, caller_without_privilege, user_in, write_spec
from unionfs.container.mount import clear_dead_mounts
from unionfs.container.process import (
    Overrides,
    Process,
    check_command,
    process_of,
    require_command,
)
from unionfs.container.remove import LEAVING, StillMountedError, remove
from unionfs.container.rootfile import open_root, stat_inside
from unionfs.container.runtime import Job, run_job
from unionfs.container.session import mounted
from unionfs.container.spec import Surroundings, environment, runtime_spec
from unionfs.container.state import Mounted
from unionfs.container.supervise import signals_held
from unionfs.errors import ConflictError, NotFoundError
from unionfs.store.parts import AmbiguousError
from unionfs.store.records import ContainerRecord
from unionfs.store.store import Store
from unionfs.syscalls.idmap import own_ids
from unionfs.syscalls.interrupt import Interrupted, interruptible, let_go

_RESOLVER = "/etc/resolv.conf"
_Record = TypeVar("_Record")


class NameForExistingError(ConflictError):
    """A name was given for a container that exists already."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to run: ``subject`` is a container or an image, ``name`` that of a new container.

    ``runtime`` is one of ``runtime.RUNTIMES`` or None; ``remove`` throws the container away
    afterwards; with ``private_network`` the process has no network, else the host's.
    """

    subject: str
    overrides: Overrides = field(default_factory=Overrides)
    name: str | None = None
    runtime: str | None = None
    remove: bool = False
    private_network: bool = False


def run(root: str, order: Order, note: Callable[[str], None]) -> int:
    """Run *order* in the store at *root* and return the exit status of its process.

    A signal that ends us before the process is there is 128+n. *note* is told in one line what
    went otherwise than wanted. Raises UnionfsError; then a container made for this is gone again.
    """
    try:
        with interruptible():
            return _run(root, order, note)
    except Interrupted as interruption:
        return interruption.status


def _run(root: str, order: Order, note: Callable[[str], None]) -> int:
    unwanted: ContainerRecord | None = None
    try:
        with signals_held(), Store.open(root, create=False) as store:
            # Held, so that no signal comes between making a container and knowing of it.
            container, made = _subject(store, order)
            unwanted = container if made else None
        if order.remove and not made:
            _refuse_to_remove(container)
        status = _run_somewhere(root, container, order, note)
        unwanted = container if order.remove else None
        return status
    except Interrupted as interruption:
        let_go(interruption)
        raise
    finally:
        if unwanted is not None:
            with signals_held(), Store.open(root) as store:
                remove(store, unwanted, note=note, patience=LEAVING)


def _subject(store: Store, order: Order) -> tuple[ContainerRecord, bool]:
    """Return the container of *order* and whether it was made now."""
    container = _lookup(store.containers.resolve, order.subject)
    if container is not None and order.subject in (container.name, container.id):
        return _existing(container, order), False
    # Not what a container is called: an image's name comes before the beginning of an ID.
    image = _lookup(store.images.resolve, order.subject)
    if image is not None and container is not None and image.id.hex.startswith(order.subject):
        raise AmbiguousError(f"{order.subject!r} begins the ID of a container and of an image")
    if image is not None:
        return store.containers.create(image, order.name), True
    if container is None:
        raise NotFoundError(f"no such container or image: {order.subject}")
    return _existing(container, order), False


def _lookup(resolve: Callable[[str], _Record], text: str) -> _Record | None:
    try:
        return resolve(text)
    except NotFoundError:
        return None


def _existing(container: ContainerRecord, order: Order) -> ContainerRecord:
    if order.name is not None:
        raise NameForExistingError(
            f"container {container.name} exists already and cannot be named {order.name!r}"
        )
    return container


def _refuse_to_remove(container: ContainerRecord) -> None:
    for mount in clear_dead_mounts(container):
        raise StillMountedError(
            f"container {container.name} is mounted at {mount.shown}, "
            f"so it cannot be removed afterwards"
        )


def _run_somewhere(
    root: str, container: ContainerRecord, order: Order, note: Callable[[str], None]
) -> int:
    """Run *order* here, or in a user namespace where its mount has to be made in one.

    A mount that an ordinary user made before is outside of any such namespace: the program then
    sees it as its own namespace can, with owners that have no name.
    """
    if not namespace.needed() or clear_dead_mounts(container):
        return _run_in(root, container, order, note)
    beside = namespace.where_mounted(container.id)
    return namespace.run_inside(lambda: _run_in(root, container, order, note), beside=beside)


def _run_in(
    root: str, container: ContainerRecord, order: Order, note: Callable[[str], None]
) -> int:
    with signals_held(), Store.open(root) as store:
        process = process_of(store.images.get(container.image_id).config, order.overrides)
        home = store.containers.path(container.id)
    require_command(process)
    with (
        mounted(root, container, note) as mount,
        signals_held(),
        tempfile.TemporaryDirectory(prefix="run-", dir=home) as directory,
    ):
        job = _job(mount, container, process, order, directory)
        return run_job(job, order.runtime, note)


def _job(
    mount: Mounted, container: ContainerRecord, process: Process, order: Order, directory: str
) -> Job:
    user = user_in(mount.target, process)
    around = Surroundings(
        root=mount.shown,
        hostname=container.short,
        terminal=all(os.isatty(fd) for fd in (0, 1, 2)),
        read_only=mount.read_only,
        private_network=order.private_network,
        rootless=caller_without_privilege(),
        ids=own_ids(),
        binds=() if order.private_network else _resolver(mount.target),
    )
    root_fd = open_root(mount.target)
    try:
        check_command(root_fd, process, environment(process, user, around))
    finally:
        os.close(root_fd)
    spec = runtime_spec(process, user, around)
    write_spec(os.path.join(directory, CONFIG), spec)
    return Job(spec, directory, f"unionfs-{container.short}-{os.getpid()}")


def _resolver(root: bytes) -> tuple[tuple[str, str], ...]:
    """Return the bind mount that gives a process on the host's network the host's name servers.

    Only over a plain file: making one would be a change to the container, and a link is the
    image's own arrangement.
    """
    root_fd = open_root(root)
    try:
        inside = stat_inside(root_fd, _RESOLVER.encode(), links=False)
    finally:
        os.close(root_fd)
    if inside is None or not stat.S_ISREG(inside.st_mode) or not os.path.isfile(_RESOLVER):
        return ()
    return ((os.path.realpath(_RESOLVER), _RESOLVER),)
