"""A stored layer's directory made again, from what the store itself has of it."""

from __future__ import annotations

import os
from typing import BinaryIO, cast

from unionfs.digest import Digest
from unionfs.errors import CorruptError
from unionfs.image.shipping import damage, kept_blob, opened
from unionfs.store.layers import Making
from unionfs.store.records import BlobRecord
from unionfs.store.store import Store
from unionfs.tarball.apply import Applied, apply_layer
from unionfs.tarball.compression import open_decompressed
from unionfs.tarball.limits import UNLIMITED
from unionfs.tarball.recipe import opened_tar

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NothingLeftError(CorruptError):
    """The store has neither a layer's blob nor what makes its tar."""


def restore_layer(store: Store, diff_id: Digest) -> None:
    """Make the directory of a stored layer again: of its kept blob, else of its recipe and files.

    Raises NothingLeftError, WrongLayerError if what is left is another tar, RecipeError,
    LayerMountedError, StoreFullError, StoreFailedError; the layer is then as it was.
    """
    with store.lease([diff_id]):
        blob = kept_blob(store, diff_id, None)
        recipe = store.layers.recipe_path(diff_id)
        if blob is not None and damage(store, blob) is None:
            store.layers.replace(diff_id, lambda making: _of_blob(store, blob, making))
        elif recipe is not None and os.path.isdir(store.layers.path(diff_id)):
            tree = store.layers.path(diff_id)
            store.layers.replace(diff_id, lambda making: _of_recipe(store, recipe, tree, making))
        else:
            raise NothingLeftError(f"layer {diff_id}: nothing is left to make it of")


def _of_blob(store: Store, blob: BlobRecord, making: Making) -> Applied:
    with opened(store, blob) as section:
        return _apply(store, open_decompressed(cast("BinaryIO", section)), making)


def _of_recipe(store: Store, recipe: str, tree: str, making: Making) -> Applied:
    fd = os.open(tree, _DIR)
    try:
        with open(recipe, "rb") as file:
            return _apply(store, opened_tar(file, fd), making)
    finally:
        os.close(fd)


def _apply(store: Store, tar: BinaryIO, making: Making) -> Applied:
    return apply_layer(
        tar, making.tree, flavour=store.flavour, limits=UNLIMITED, recipe=making.recipe
    )
