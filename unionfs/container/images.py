"""Removing images, which the store allows, and a mount may forbid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unionfs.container.state import read_state
from unionfs.digest import Digest
from unionfs.errors import ConflictError
from unionfs.store.names import name_meant
from unionfs.store.records import ImageRecord
from unionfs.store.store import Store


class ImageMountedError(ConflictError):
    """The image is mounted with no container behind it."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What went: names, images of which no name is left, and layers that no image needs."""

    names: Sequence[str]
    images: Sequence[Digest]
    layers: Sequence[Digest]


def remove_images(store: Store, words: Sequence[str]) -> Removed:
    """Remove what *words* stand for, all or none.

    A name takes the image along when it is the last one, as with docker and podman; an ID takes it
    with all its names. Raises NotFoundError, AmbiguousError, ImageMountedError, and ConflictError
    naming the containers.
    """
    images: dict[Digest, ImageRecord] = {}
    names: dict[Digest, set[str]] = {}
    for word in words:
        image = store.images.resolve(word)
        name = name_meant(word, image.names)
        images[image.id] = image
        names.setdefault(image.id, set()).update(image.names if name is None else [name])
    going = [image for image in images.values() if names[image.id] == set(image.names)]
    _refuse_mounted(going)
    gone = tuple(sorted(set[str]().union(*names.values())))
    ids = tuple(image.id for image in going)
    return Removed(gone, ids, store.images.remove(ids, gone))


def _refuse_mounted(images: Sequence[ImageRecord]) -> None:
    state = read_state()
    for image in images:
        for mounted in state.of_image(image.id.hex):
            label = image.names[0] if image.names else image.id.short
            raise ImageMountedError(
                f"image {label} is mounted at {mounted.shown}: unmount it first"
            )
