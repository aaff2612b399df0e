"""Disk usage: what is shared, what is own, what removing something would give back.

What a layer holds the store knows; what things take on disk has to be walked. Blocks that files
share (a blob that was reflinked from its source) count in full with each.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from unionfs.container.indexing import index_path
from unionfs.digest import Digest
from unionfs.store.garbage import Sweep
from unionfs.store.records import ContainerRecord, ImageRecord, LayerRecord
from unionfs.store.store import Store
from unionfs.syscalls.treesize import NOTHING, TreeSize, tree_size


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """An image's bytes: in layers that other images have too, in layers only it has.

    ``blobs``: of its layers as they came, where those are kept, on disk. ``frees``: what would be
    free without it, on disk; None while containers use it, for it cannot go.
    """

    image: ImageRecord
    shared: TreeSize
    own: TreeSize
    blobs: int
    frees: int | None
    containers: int


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """A container's bytes: of its upper directory, and of the image it shares (content).

    ``frees``: what would be free without it, on disk.
    """

    container: ContainerRecord
    own: TreeSize
    shared: int
    frees: int


@dataclass(frozen=True, slots=True)
class Usage:
    """The whole store's usage; ``layers`` counts each layer once.

    ``blobs`` and ``garbage`` (what ``gc`` would remove) are bytes on disk.
    """

    images: Sequence[ImageUsage]
    containers: Sequence[ContainerUsage]
    layer_count: int
    layers: TreeSize
    blob_count: int
    blobs: int
    garbage: int

    @property
    def in_containers(self) -> TreeSize:
        """All uppers together."""
        return sum((usage.own for usage in self.containers), NOTHING)


def usage(store: Store) -> Usage:
    """Return what *store* takes. Raises OSError."""
    containers, images, layers = _listed(store)
    sizes = _Sizes(
        {diff_id: _of_layer(store, layer) for diff_id, layer in layers.items()},
        {diff_id: _of_blobs(store, diff_id) for diff_id in layers},
    )
    sweep = Sweep(dry=True, measured=True)
    store.sweep(sweep)
    return Usage(
        images=[
            _of_image(image, layers, sizes, containers, _of_chain(store, image, images.values()))
            for image in images.values()
        ],
        containers=[_of_container(store, one, images[one.image_id]) for one in containers],
        layer_count=len(layers),
        layers=sum(sizes.layers.values(), NOTHING),
        blob_count=len(store.blobs.list()),
        blobs=sum(sizes.blobs.values()),
        garbage=sum(one.size for one in sweep.found),
    )


def _listed(
    store: Store,
) -> tuple[Sequence[ContainerRecord], Mapping[Digest, ImageRecord], Mapping[Digest, LayerRecord]]:
    """Return what is there and refers to what is there: others add and remove meanwhile."""
    containers = store.containers.list()
    images = {image.id: image for image in store.images.list()}
    layers = {layer.diff_id: layer for layer in store.layers.list()}
    images = {key: image for key, image in images.items() if set(image.diff_ids) <= layers.keys()}
    return [one for one in containers if one.image_id in images], images, layers


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What each layer takes, and its blobs on disk."""

    layers: Mapping[Digest, TreeSize]
    blobs: Mapping[Digest, int]


def _of_layer(store: Store, layer: LayerRecord) -> TreeSize:
    """Return a layer's content, and what its directory takes with all that describes it."""
    home = os.path.dirname(os.fsencode(store.layers.path(layer.diff_id)))
    return TreeSize(layer.content_size, _on_disk(home))


def _of_blobs(store: Store, diff_id: Digest) -> int:
    paths = [store.blobs.path(blob.digest) for blob in store.blobs.of_layer(diff_id)]
    return sum(_on_disk(os.fsencode(path)) for path in paths)


def _of_chain(store: Store, image: ImageRecord, images: Iterable[ImageRecord]) -> int:
    """Return what index and fix-up of *image* take on disk, if no other has the same layers."""
    index, chain = index_path(store, image), image.chain_id
    if index is None or chain is None or sum(chain == other.chain_id for other in images) > 1:
        return 0
    return _on_disk(index) + _on_disk(os.fsencode(store.images.fixup_path(chain)))


def _on_disk(path: bytes) -> int:
    """Return what *path* takes; nothing if it is gone, which is for ``check`` to tell."""
    try:
        return tree_size(path).on_disk
    except FileNotFoundError:
        return 0


def _of_image(
    image: ImageRecord,
    layers: Mapping[Digest, LayerRecord],
    sizes: _Sizes,
    containers: Sequence[ContainerRecord],
    of_chain: int,
) -> ImageUsage:
    has = set(image.diff_ids)
    own = {diff_id for diff_id in has if set(layers[diff_id].images) <= {image.id}}
    users = sum(container.image_id == image.id for container in containers)
    own_size = sum((sizes.layers[diff_id] for diff_id in own), NOTHING)
    return ImageUsage(
        image,
        shared=sum((sizes.layers[diff_id] for diff_id in has - own), NOTHING),
        own=own_size,
        blobs=sum(sizes.blobs[diff_id] for diff_id in has),
        frees=(
            None
            if users
            else own_size.on_disk + sum(sizes.blobs[diff_id] for diff_id in own) + of_chain
        ),
        containers=users,
    )


def _of_container(store: Store, container: ContainerRecord, image: ImageRecord) -> ContainerUsage:
    home = os.fsencode(store.containers.path(container.id))
    try:
        upper = tree_size(os.path.join(home, b"upper"))
    except FileNotFoundError:
        upper = NOTHING
    return ContainerUsage(container, upper, image.size, _on_disk(home))
