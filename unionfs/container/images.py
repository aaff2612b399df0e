"""Removing images, which the store allows, and a mount may forbid."""

from __future__ import annotations

from collections.abc import Sequence

from unionfs.container.state import read_state
from unionfs.digest import Digest
from unionfs.errors import ConflictError
from unionfs.store.store import Store


class ImageMountedError(ConflictError):
    """The image is mounted with no container behind it."""


def remove_images(store: Store, names: Sequence[str]) -> tuple[Sequence[Digest], Sequence[Digest]]:
    """Remove the images that *names* stand for; return their IDs and the diffIDs that went.

    All or none. Raises NotFoundError, ImageMountedError, and ConflictError naming the containers.
    """
    state = read_state()
    images = {}
    for name in names:
        image = store.images.resolve(name)
        for mounted in state.of_image(image.id.hex):
            raise ImageMountedError(f"image {name} is mounted at {mounted.shown}: unmount it first")
        images[image.id] = image
    return tuple(images), store.images.remove(images)
