"""Disk usage: what is shared, what is own, and what the whole store takes, counted once.

Images are counted by the content of their layers, which the store knows; containers by the blocks
of their upper, which have to be walked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unionfs.digest import Digest
from unionfs.store.records import ContainerRecord, ImageRecord, LayerRecord
from unionfs.store.store import Store
from unionfs.syscalls.treesize import tree_size


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """An image's bytes: in layers that other images have too, in layers only it has."""

    image: ImageRecord
    shared: int
    own: int
    containers: int


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """A container's bytes: of its upper directory on disk, and of the image it shares."""

    container: ContainerRecord
    own: int
    shared: int


@dataclass(frozen=True, slots=True)
class Usage:
    """The whole store's usage; ``layer_bytes`` counts each layer once."""

    images: Sequence[ImageUsage]
    containers: Sequence[ContainerUsage]
    layers: int
    layer_bytes: int

    @property
    def container_bytes(self) -> int:
        """The bytes of all uppers together."""
        return sum(usage.own for usage in self.containers)


def usage(store: Store) -> Usage:
    """Return what *store* takes on disk. Raises OSError."""
    layers = {layer.diff_id: layer for layer in store.layers.list()}
    images = {image.id: image for image in store.images.list()}
    containers = store.containers.list()
    return Usage(
        images=[_of_image(image, layers, containers) for image in images.values()],
        containers=[_of_container(store, one, images[one.image_id]) for one in containers],
        layers=len(layers),
        layer_bytes=sum(layer.content_size for layer in layers.values()),
    )


def _of_image(
    image: ImageRecord, layers: Mapping[Digest, LayerRecord], containers: Sequence[ContainerRecord]
) -> ImageUsage:
    own = shared = 0
    for diff_id in set(image.diff_ids):
        layer = layers[diff_id]
        if set(layer.images) <= {image.id}:
            own += layer.content_size
        else:
            shared += layer.content_size
    users = sum(container.image_id == image.id for container in containers)
    return ImageUsage(image, shared, own, users)


def _of_container(store: Store, container: ContainerRecord, image: ImageRecord) -> ContainerUsage:
    upper = os.path.join(os.fsencode(store.containers.path(container.id)), b"upper")
    return ContainerUsage(container, tree_size(upper).on_disk, image.size)
