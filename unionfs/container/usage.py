"""Disk usage: what is shared, what is own, and what the whole store takes, counted once.

Images are counted by the content of their layers, which the store knows; containers by the blocks
of their upper, which have to be walked.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unionfs.digest import Digest
from unionfs.store.records import ContainerRecord, ImageRecord, LayerRecord
from unionfs.store.store import Store
from unionfs.syscalls.at import open_beneath

_BLOCK = 512  # the unit of st_blocks, whatever the filesystem's (stat(2))
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_VANISHED = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))


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


def tree_bytes(path: bytes) -> int:
    """Return the bytes that the tree at *path* takes on disk, a file with several names once.

    Walks by descriptors, follows no link, does not cross into another filesystem, and lets things
    vanish while it looks. Raises OSError if *path* itself cannot be read.
    """
    top = os.open(path, _DIRECTORY)
    try:
        status = os.fstat(top)
        walk = _Walk(top, status.st_dev, status.st_blocks)
        walk.run()
    finally:
        os.close(top)
    return walk.blocks * _BLOCK


class _Walk:
    """One walk below a directory: constant descriptors, any depth."""

    def __init__(self, top: int, device: int, blocks: int) -> None:
        self._top = top
        self._device = device
        self._linked: set[int] = set()
        self.blocks = blocks

    def run(self) -> None:
        """Add up everything below the top."""
        pending = [b"."]
        while pending:
            here = pending.pop()
            try:
                fd = open_beneath(self._top, here, _DIRECTORY)
            except OSError as error:
                if error.errno in _VANISHED:
                    continue
                raise
            try:
                pending += [here + b"/" + name for name in self._directory(fd)]
            finally:
                os.close(fd)

    def _directory(self, fd: int) -> list[bytes]:
        """Count the entries of a directory; return the names of its subdirectories."""
        below = []
        with os.scandir(fd) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if status.st_dev == self._device and self._is_new(status):
                    self.blocks += status.st_blocks
                    if stat.S_ISDIR(status.st_mode):
                        below.append(os.fsencode(entry.name))
        return below

    def _is_new(self, status: os.stat_result) -> bool:
        if stat.S_ISDIR(status.st_mode) or status.st_nlink == 1:
            return True
        if status.st_ino in self._linked:
            return False
        self._linked.add(status.st_ino)
        return True


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
    return ContainerUsage(container, tree_bytes(upper), image.size)
