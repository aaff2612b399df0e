"""Making the merged index of an image, which its mounts use (``union.merged``)."""

from __future__ import annotations

import os
import sqlite3
from functools import partial

from unionfs.container.layers import layer_names
from unionfs.errors import UnionfsError
from unionfs.inspect.stack import Source, Stack
from unionfs.store.records import ImageRecord
from unionfs.store.store import Store
from unionfs.union.merged import MergedIndex, write


def index_path(store: Store, image: ImageRecord) -> bytes | None:
    """Return the file in which the index of *image* is or would be; None if it has no layers."""
    return None if image.chain_id is None else os.fsencode(store.indexes.path(image.chain_id))


def has_index(store: Store, image: ImageRecord) -> bool:
    """Return whether mounts of *image* need not read its layers. Raises as ``_stack``."""
    path = index_path(store, image)
    if path is None:
        return True
    with _stack(store, image) as stack:
        return _is_right(path, stack)


def make_index(store: Store, image: ImageRecord) -> bool:
    """Make the index of *image* if there is none that is right; return whether there is one now.

    Never in the way of what it comes after: a mount does without, ``unionfs check`` tells.
    """
    path = index_path(store, image)
    if path is None:
        return True
    assert image.chain_id is not None
    try:
        with _stack(store, image) as stack:
            if not _is_right(path, stack):
                store.indexes.publish(image.chain_id, partial(write, tree=stack.tree))
    except (UnionfsError, OSError, sqlite3.Error):
        return False
    return True


def _stack(store: Store, image: ImageRecord) -> Stack:
    """Return the layers as a mount opens them. Raises UnionfsError for missing ones, OSError."""
    return Stack(Source("", layer_names(store, image), flavour=store.flavour))


def _is_right(path: bytes, stack: Stack) -> bool:
    index = MergedIndex.open(path, stack.tree.lowers())
    if index is not None:
        index.close()
    return index is not None
