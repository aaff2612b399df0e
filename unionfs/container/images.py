"""Removing images, which the store allows, and a mount may forbid."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unionfs.container.state import read_state
from unionfs.digest import Digest
from unionfs.errors import ConflictError, NotFoundError
from unionfs.store.inuse import unused, users
from unionfs.store.names import name_meant
from unionfs.store.records import ImageRecord
from unionfs.store.store import Store

_PATIENCE = 2.0  # seconds for a daemon that is leaving


class ImageMountedError(ConflictError):
    """The image is mounted with no container behind it."""


class SeveralNamesError(ConflictError):
    """An image that is named by its ID has several names, which were not to go by force."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What went: names, images of which no name is left, and layers that no image needs."""

    names: Sequence[str]
    images: Sequence[Digest]
    layers: Sequence[Digest]


def remove_images(
    store: Store, words: Sequence[str], *, force: bool = False, note: Callable[[str], None]
) -> Removed:
    """Remove what *words* stand for, all or none.

    As with docker and podman: a name takes the image along when it is the last one; an ID takes
    the image with its one name, and with several by *force* only, which also makes of an image that
    is not there a *note* instead of an error. (docker's force takes an image from under a stopped
    container as well. Here a container always keeps its layers.) Raises NotFoundError,
    AmbiguousError, SeveralNamesError, ImageMountedError, and ConflictError naming the containers.
    """
    images: dict[Digest, ImageRecord] = {}
    names: dict[Digest, set[str]] = {}
    for word in words:
        try:
            image = store.images.resolve(word)
        except NotFoundError as error:
            if not force:
                raise
            note(str(error))
            continue
        name = name_meant(word, image.names)
        if name is None and len(image.names) > 1 and not force:
            raise SeveralNamesError(
                f"image {word} has several names ({', '.join(image.names)}):"
                " remove names, or all of it with --force"
            )
        images[image.id] = image
        names.setdefault(image.id, set()).update(image.names if name is None else [name])
    going = [image for image in images.values() if names[image.id] == set(image.names)]
    gone = tuple(sorted(set[str]().union(*names.values())))
    ids = tuple(image.id for image in going)
    store.images.require_unused(ids)  # the containers' names say more than those of their daemons
    _refuse_mounted(store, going)
    return Removed(gone, ids, store.images.remove(ids, gone))


def _refuse_mounted(store: Store, images: Sequence[ImageRecord]) -> None:
    state = read_state()
    for image in images:
        for mounted in state.of_image(image.id.hex):
            raise ImageMountedError(
                f"image {_label(image)} is mounted at {mounted.shown}: unmount it first"
            )
    ids = {image.id for image in images}
    deadline = time.monotonic() + _PATIENCE
    for image in images:
        for diff_id in image.diff_ids:
            if set(store.layers.get(diff_id).images) <= ids:
                _await_unused(image, store.layers.path(diff_id), deadline)


def _await_unused(image: ImageRecord, path: str, deadline: float) -> None:
    """Wait for daemons that are leaving. Raises ImageMountedError if one that has *path* stays."""
    while True:
        with unused(path) as free:
            if free:
                return
        if time.monotonic() > deadline:
            pids = " ".join(map(str, users(path))) or "not to be seen from here"
            raise ImageMountedError(
                f"image {_label(image)} is still mounted somewhere (daemon: {pids}): "
                "unmount it first"
            )
        time.sleep(0.02)


def _label(image: ImageRecord) -> str:
    return image.names[0] if image.names else image.id.short
