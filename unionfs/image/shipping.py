"""A stored layer as it can be shipped: the blob it came as, or its tar, compressed anew.

The tar is the one that was imported, made by its recipe and checked against the diffID; what is
compressed anew has the digest it came with where our compressor wrote that too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO, cast

from unionfs.digest import Digest
from unionfs.errors import CorruptError
from unionfs.image.files import Section
from unionfs.image.manifest import layer_type
from unionfs.store.records import BlobRecord
from unionfs.store.store import Store
from unionfs.tarball.compression import MAGIC_SIZE, Kind, compress, kind_of, open_decompressed
from unionfs.tarball.emit import emit_tree
from unionfs.tarball.recipe import replay
from unionfs.tarball.verify import VerifyingReader
from unionfs.tarball.writer import HashingWriter

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY = 1 << 20


class LostTarError(CorruptError):
    """A layer cannot be written as the tar that it was."""


def kept_blob(
    store: Store, diff_id: Digest, kind: Kind | None, came_as: Digest | None = None
) -> BlobRecord | None:
    """Return a kept blob of the layer that is compressed as *kind* (None: in any way), if any.

    Of several the one with the digest *came_as*, if it is among them.
    """
    for blob in sorted(store.blobs.of_layer(diff_id), key=lambda one: one.digest != came_as):
        if kind is None or kind_of_blob(store, blob) == kind:
            return blob
    return None


def kind_of_blob(store: Store, blob: BlobRecord) -> Kind:
    """Return how a kept blob is compressed. Raises OSError."""
    with opened(store, blob) as section:
        return kind_of(section.start(MAGIC_SIZE))


def copy_kept(store: Store, blob: BlobRecord, out: BinaryIO, told: Callable[[int], None]) -> None:
    """Write a kept blob to *out*; *told* gets counts of bytes.

    Raises BlobMismatchError if it is not what it was, OSError.
    """
    with opened(store, blob) as section:
        reader = VerifyingReader(cast("BinaryIO", section), blob.digest, blob.size)
        while data := reader.read(_COPY):
            out.write(data)
            told(len(data))
        reader.finish()


def damage(store: Store, blob: BlobRecord) -> str | None:
    """Return what is wrong with the bytes of a kept blob, None if they are as they came."""
    try:
        with opened(store, blob) as section:
            reader = VerifyingReader(cast("BinaryIO", section), blob.digest, blob.size)
            while reader.read(_COPY):
                pass
            reader.finish()
    except OSError as error:
        return f"its kept blob {blob.digest} cannot be read: {error.strerror}"
    except CorruptError as error:
        return f"its kept blob is damaged: {error}"
    return None


def write_layer(
    store: Store, diff_id: Digest, kind: Kind, out: BinaryIO, told: Callable[[int], None]
) -> None:
    """Write the tar of a layer to *out*, compressed as *kind*; *told* gets counts of tar bytes.

    Raises LostTarError if it is not the tar that was imported, CorruptError, OSError.
    """
    with compress(kind, out) as compressed:
        found = _write_tar(store, diff_id, cast("BinaryIO", _Telling(compressed, told)))
    if found != diff_id:
        raise LostTarError(
            f"layer {diff_id} is not what was imported any more: its tar has the digest {found}"
        )


def media_type(blob: BlobRecord, kind: Kind) -> str:
    """Return the media type of a kept blob in an OCI manifest."""
    return blob.media_type if blob.media_type.startswith(layer_type("none")) else layer_type(kind)


def _write_tar(store: Store, diff_id: Digest, out: BinaryIO) -> Digest:
    """Write the uncompressed tar of a layer; return the digest of what was written."""
    recipe = store.layers.recipe_path(diff_id)
    blob = kept_blob(store, diff_id, None)
    if recipe is None and blob is not None:
        return _unpack(store, blob, out)
    fd = os.open(store.layers.readable_path(diff_id), _DIR)
    try:
        if recipe is None:  # what we wrote ourselves comes out of the directory as it went in
            return emit_tree(fd, out, flavour=store.flavour)
        with open(recipe, "rb") as file:
            return replay(file, fd, out)
    finally:
        os.close(fd)


def _unpack(store: Store, blob: BlobRecord, out: BinaryIO) -> Digest:
    hashing = HashingWriter(out)
    with opened(store, blob) as section:
        reader = open_decompressed(cast("BinaryIO", section))
        while data := reader.read(_COPY):
            hashing.write(data)
    return hashing.digest()


def opened(store: Store, blob: BlobRecord) -> Section:
    """Return the bytes of a kept blob, as they are on disk. Raises OSError."""
    fd = os.open(store.blobs.path(blob.digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    return Section(fd, 0, os.fstat(fd).st_size)


class _Telling:
    """Passes bytes on to *out* and tells how many."""

    def __init__(self, out: BinaryIO, told: Callable[[int], None]) -> None:
        self._out = out
        self._told = told

    def write(self, data: bytes) -> int:
        self._out.write(data)
        self._told(len(data))
        return len(data)
