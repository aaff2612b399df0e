"""A container whose upper does not change while it is read, mounted or not.

Who is not mounted cannot be: the lock that a daemon needs is ours meanwhile. Who is mounted has a
daemon that answers nothing meanwhile: what programs ask waits in the kernel, and what they were
answered before is on disk whole. Only what they write through shared maps asks nobody (there is no
writeback cache, nor passthrough): that is brought to the files first, and if it may go on, somebody
has to say that this does not matter.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from unionfs.container.locks import refuse_while_running
from unionfs.container.mount import CONTROL, clear_dead_mounts
from unionfs.container.remove import LEAVING
from unionfs.container.state import container_of_fsname
from unionfs.daemon import client
from unionfs.daemon.mappings import Mapping, mappings
from unionfs.daemon.writers import writers
from unionfs.errors import ConflictError
from unionfs.store.inuse import users
from unionfs.store.records import ContainerRecord
from unionfs.store.store import Store
from unionfs.syscalls.mount import mount_table

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SHOWN = 3


class MappedError(ConflictError):
    """A file of the container is mapped shared and may change while it is read."""


class WrittenError(ConflictError):
    """A file of the container is open for writing where nothing may be."""


class UnreachableMountError(ConflictError):
    """The container is mounted by a daemon that cannot be seen from here."""


@contextmanager
def at_rest(
    store: Store, container: ContainerRecord, *, live: bool, unwritten: bool = False
) -> Iterator[client.Frozen | None]:
    """See to it that nothing changes the upper of *container* in the block; under ``mount_lock``.

    Yields the mount, which can be told to go on earlier; None if it is not mounted. With *live*
    files that are mapped shared may change. With *unwritten* nothing may be open for writing, and
    the container may not be about to be mounted by a ``run``. Raises MappedError or WrittenError
    naming files, UnreachableMountError, FrozenError, RunningError.
    """
    clear_dead_mounts(container)
    work = os.path.join(store.containers.path(container.id), "work")
    fd = os.open(work, _DIRECTORY)
    try:
        device = _lock_or_device(container, work, fd)
        if device is None:
            if unwritten:
                refuse_while_running(store, container)
            yield None
        elif unwritten:
            with _frozen_unwritten(store, container, device) as mount:
                yield mount
        else:
            with _frozen(store, container, device, live=live) as mount:
                yield mount
    finally:
        os.close(fd)


def _lock_or_device(container: ContainerRecord, work: str, fd: int) -> str | None:
    """Take the lock on *work*, open as *fd*, or return the device of the mount that has it.

    A daemon whose mount is gone is leaving, and is waited for. Raises UnreachableMountError if it
    does not leave: its mount may be where it cannot be seen.
    """
    deadline = time.monotonic() + LEAVING
    while not _lock(fd):
        device = _device(container, work)
        if device is not None:
            return device
        if time.monotonic() > deadline:
            raise UnreachableMountError(
                f"container {container.name} is mounted by a daemon that cannot be seen from here:"
                " unmount it first"
            )
        time.sleep(0.02)
    return None


def _lock(work: int) -> bool:
    """Take the lock that a daemon holds while it can write; return False if one has it."""
    try:
        fcntl.flock(work, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _frozen(
    store: Store, container: ContainerRecord, device: str, *, live: bool
) -> Iterator[client.Frozen]:
    for mapping in _checked(container, device, live=live):
        try:
            mapping.sync()
        except FileNotFoundError:
            pass  # the map has just gone, and its pages with it to the file
    with client.frozen(_control(store, container)) as mount:
        yield mount
    # What was mapped since. Not before the mount goes on: who waits for it in a page fault may keep
    # others from reading its maps.
    _checked(container, device, live=live)


@contextmanager
def _frozen_unwritten(
    store: Store, container: ContainerRecord, device: str
) -> Iterator[client.Frozen]:
    """As ``_frozen``, with no file open for writing when it begins.

    One that is opened just then is no harm: what is written to it will be in the new upper.
    """
    found = {f"{one.path} by {one.name} ({one.pid})" for one in mappings(device)}
    found |= {f"{one.path} by {one.name} ({one.pid})" for one in writers(device)}
    if found:
        shown = ", ".join(sorted(found)[:_SHOWN])
        raise WrittenError(
            f"container {container.name} has files that are open for writing or mapped shared:"
            f" {shown}; close them, or unmount it first"
        )
    with client.frozen(_control(store, container)) as mount:
        yield mount


def _control(store: Store, container: ContainerRecord) -> bytes:
    return os.path.join(os.fsencode(store.containers.path(container.id)), CONTROL)


def _checked(container: ContainerRecord, device: str, *, live: bool) -> list[Mapping]:
    """Return the shared maps of the container's files. Raises MappedError if they matter."""
    found = mappings(device)
    moving = [] if live else [mapping for mapping in found if not mapping.paused]
    if moving:
        shown = ", ".join(f"{one.path} by {one.name} ({one.pid})" for one in moving[:_SHOWN])
        raise MappedError(
            f"container {container.name} has files that are mapped and may change: {shown};"
            " pause that, or commit with --live"
        )
    return found


def _device(container: ContainerRecord, work: str) -> str | None:
    """Return the device number of the container's mount, in whatever mount namespace it is.

    None if no daemon that can be seen has such a mount.
    """
    for pid in users(work):
        try:
            table = mount_table(f"/proc/{pid}/mountinfo")
        except OSError:
            continue
        for entry in table:
            if container_of_fsname(os.fsdecode(entry.source)) == container.id:
                return entry.device
    return None
