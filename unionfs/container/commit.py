"""Making what a container changed a layer, and its image with that layer a new image.

The layer is written as a tar and ingested as one that is imported, while it is written: what the
store then has is what any importer would have made of it, marks of the driver, redirects and all
that can hide in an upper left behind. (Moving the upper's files would save a copy of the changes,
but the container still has them, and links would be cut or shared.)
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain

from unionfs.container.delta_tar import write_delta
from unionfs.container.locks import mount_lock, refuse_while_running
from unionfs.container.mount import clear_dead_mounts
from unionfs.digest import Digest
from unionfs.errors import ConflictError
from unionfs.image.clock import source_date_epoch
from unionfs.image.derived import Step, derived_image
from unionfs.image.emitted import apply_emitted
from unionfs.image.instructions import changed_config
from unionfs.store.garbage import Lease
from unionfs.store.inuse import users
from unionfs.store.names import image_name
from unionfs.store.records import ContainerRecord, ImageRecord
from unionfs.store.store import Store
from unionfs.tarball.limits import UNLIMITED
from unionfs.upper.delta import Delta

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MADE_BY = "unionfs commit"


class MountedError(ConflictError):
    """The container is mounted, so what it changed may change while it is read."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How an image is to be made: what history says, ``docker commit --change`` lines.

    ``keep_unchanged``: copies that nothing was changed in are part of the layer too.
    """

    message: str = ""
    author: str = ""
    changes: Sequence[str] = ()
    keep_unchanged: bool = False


def commit(
    store: Store,
    container: ContainerRecord,
    name: str,
    wanted: Wanted,
    progress: Callable[[int], None],
) -> ImageRecord:
    """Make an image *name* (``NAME[:TAG]``) of *container*; return its record.

    *progress* gets counts of bytes. A container that changed nothing gives an image with no layer
    more. Raises BadNameError, BadChangeError, BadEpochError, MountedError, RunningError,
    StoreFullError, StoreFailedError; the store is then as it was.
    """
    full_name = image_name(name)
    base = store.images.get(container.image_id)
    run_config = changed_config(base.run_config, wanted.changes)
    with (
        mount_lock(store, container),
        _at_rest(store, container),
        store.lease(base.diff_ids) as lease,
    ):
        layer = _layer(store, container, wanted, lease, progress)
        step = Step(_MADE_BY, wanted.message, wanted.author)
        return store.images.add(derived_image(base, layer, run_config, step), [full_name])


@contextmanager
def _at_rest(store: Store, container: ContainerRecord) -> Iterator[None]:
    """See to it that nothing changes the upper; under ``mount_lock``."""
    for mounted in clear_dead_mounts(container):
        raise MountedError(
            f"container {container.name} is mounted at {mounted.shown}: unmount it first"
        )
    refuse_while_running(store, container)
    work = os.path.join(store.containers.path(container.id), "work")
    fd = os.open(work, _DIRECTORY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # what a daemon has while it is mounted
        except BlockingIOError:
            pids = " ".join(map(str, users(work))) or "not to be seen from here"
            raise MountedError(
                f"container {container.name} is mounted somewhere (daemon: {pids}):"
                " unmount it first"
            ) from None
        yield
    finally:
        os.close(fd)


def _layer(
    store: Store,
    container: ContainerRecord,
    wanted: Wanted,
    lease: Lease,
    progress: Callable[[int], None],
) -> Digest | None:
    """Store the layer of what *container* changed; return its diffID, None if that is nothing."""
    lowers = [os.fsencode(path) for path in store.images.stack(container.image_id)]
    home = os.fsencode(store.containers.path(container.id))
    places = lowers, home + b"/upper", home + b"/work"
    with closing(Delta(*places, store.flavour, keep_unchanged=wanted.keep_unchanged)) as delta:
        items = delta.items()
        first = next(items, None)
        if first is None:
            return None
        epoch = source_date_epoch()
        record = store.layers.ingest_unknown(
            lambda making: apply_emitted(
                lambda out: write_delta(delta, chain([first], items), out, mtime_max=epoch),
                making,
                store.flavour,
                UNLIMITED,
                progress,
            ),
            lambda diff_id: lease.add([diff_id]),
        )
    return record.diff_id
