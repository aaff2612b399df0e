"""Making what a container changed a layer, and its image with that layer a new image.

The layer is written as a tar and ingested as one that is imported, while it is written: what the
store then has is what any importer would have made of it, marks of the driver, redirects and all
that can hide in an upper left behind. (Moving the upper's files would save a copy of the changes,
but the container still has them, and links would be cut or shared.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

from unionfs.container.delta_tar import write_delta
from unionfs.container.indexing import make_index
from unionfs.container.layers import lower_layers
from unionfs.container.locks import mount_lock
from unionfs.container.resting import at_rest
from unionfs.daemon.client import Frozen
from unionfs.digest import Digest
from unionfs.errors import ConflictError, UnionfsError
from unionfs.image.clock import source_date_epoch
from unionfs.image.derived import Step, derived_image
from unionfs.image.emitted import apply_emitted
from unionfs.image.instructions import changed_config
from unionfs.options import MountConfig
from unionfs.store.garbage import Lease
from unionfs.store.names import image_name
from unionfs.store.records import ContainerRecord, ImageRecord
from unionfs.store.store import Store
from unionfs.tarball.limits import UNLIMITED
from unionfs.upper.delta import Delta

_MADE_BY = "unionfs commit"


class NotRebasedError(ConflictError):
    """The image is made, and the container is still one of the image that it was."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How an image is to be made: what history says, ``docker commit --change`` lines.

    ``keep_unchanged``: copies that nothing was changed in are part of the layer too. ``live``: what
    is mapped shared may change while it is read. ``rebase``: the container is one of the new image
    afterwards, with an empty upper.
    """

    message: str = ""
    author: str = ""
    changes: Sequence[str] = ()
    keep_unchanged: bool = False
    live: bool = False
    rebase: bool = False


def commit(
    store: Store,
    container: ContainerRecord,
    name: str,
    wanted: Wanted,
    progress: Callable[[int], None],
) -> ImageRecord:
    """Make an image *name* (``NAME[:TAG]``) of *container*; return its record.

    *progress* gets counts of bytes. A container that changed nothing gives an image with no layer
    more. While a mounted one is read, its mount answers nothing; to be rebased, until it is.
    Raises BadNameError, BadChangeError, BadEpochError, what ``at_rest`` raises, StoreFullError,
    StoreFailedError; the store is then as it was. NotRebasedError: the image is made, and the
    container is not on it.
    """
    full_name = image_name(name)
    with mount_lock(store, container):
        container = store.containers.resolve(container.id)  # what it is now that nobody rebases it
        base = store.images.get(container.image_id)
        run_config = changed_config(base.run_config, wanted.changes)
        step = Step(_MADE_BY, wanted.message, wanted.author)
        with store.lease(base.diff_ids) as lease:
            rest = at_rest(store, container, live=wanted.live, unwritten=wanted.rebase)
            with rest as mount:
                moving = mount if wanted.rebase else None
                resume = None if mount is None or moving is not None else mount.thaw
                layer = _layer(store, container, wanted, lease, progress, resume)
                new = derived_image(base, layer, run_config, step)
                if moving is not None:
                    image = store.images.add(new, [full_name])
                    _rebase(store, container, image, moving)
            if moving is None:
                image = store.images.add(new, [full_name])
        make_index(store, image)
        if wanted.rebase and moving is None:
            _rebase(store, container, image, None)  # at rest its work directory is locked
    return image


def _rebase(
    store: Store, container: ContainerRecord, image: ImageRecord, mount: Frozen | None
) -> None:
    """Put *container* on *image*, which is made whatever becomes of that, with its *mount*."""
    moving = None if mount is None else _Moving(store, image, mount)
    try:
        store.containers.rebase(container, image, moving)
    except UnionfsError as error:
        if mount is not None:
            mount.thaw()
        if store.containers.resolve(container.id).image_id == image.id:
            return  # it was decided, and this has done what was left
        make_index(store, image)
        raise NotRebasedError(
            f"the image {image.id} is made, but container {container.name} is not on it: {error}"
        ) from error


class _Moving:
    """As ``store.containers.Mounted``: the frozen *mount* that is to go on on *image*."""

    def __init__(self, store: Store, image: ImageRecord, mount: Frozen) -> None:
        self._layers = lower_layers(store, image)
        self._mount = mount
        self.go_on = mount.go_on
        self.thaw = mount.thaw

    def prepare(self, upper: str, work: str) -> None:
        """Have it get ready for the image's layers. Raises CannotGoOnError."""
        lowers, names = self._layers
        self._mount.prepare(
            MountConfig(lowers, os.fsencode(upper), os.fsencode(work), lower_names=names)
        )


def _layer(
    store: Store,
    container: ContainerRecord,
    wanted: Wanted,
    lease: Lease,
    progress: Callable[[int], None],
    resume: Callable[[], None] | None,
) -> Digest | None:
    """Store the layer of what *container* changed; return its diffID, None if that is nothing.

    *resume*, if any, is called when all has been read.
    """
    lowers = [os.fsencode(path) for path in store.images.stack(container.image_id)]
    home = os.fsencode(store.containers.path(container.id))
    places = lowers, home + b"/upper", home + b"/work"
    with closing(Delta(*places, store.flavour, keep_unchanged=wanted.keep_unchanged)) as delta:
        items = delta.items()
        first = next(items, None)
        if first is None:
            return None
        epoch = source_date_epoch()

        def emit(out: BinaryIO) -> None:
            write_delta(delta, chain([first], items), out, mtime_max=epoch)
            if resume is not None:
                resume()

        record = store.layers.ingest_unknown(
            lambda making: apply_emitted(emit, making, store.flavour, UNLIMITED, progress),
            lambda diff_id: lease.add([diff_id]),
        )
    return record.diff_id
