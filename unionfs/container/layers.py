"""The stack of an image with the names that people call its layers by."""

from __future__ import annotations

import os

from unionfs.inspect.history import layer_commands
from unionfs.inspect.stack import FIXUP, LayerName
from unionfs.store.records import ImageRecord
from unionfs.store.store import Store


def layer_names(store: Store, image: ImageRecord) -> tuple[LayerName, ...]:
    """Return the directories to mount for *image*, topmost first.

    A layer that occurs twice in an image has the number of its topmost place, the only one where
    it can show anything. Raises NotFoundError, MissingLayerError.
    """
    commands = layer_commands(image.history, len(image.diff_ids))
    known = {}
    for place, diff_id in enumerate(image.diff_ids, start=1):
        path = store.layers.path(diff_id)
        known[path] = LayerName(
            f"layer {place}", os.fsencode(path), place, str(diff_id), commands[place - 1]
        )
    return tuple(
        known.get(path) or LayerName(FIXUP, os.fsencode(path))
        for path in store.images.stack(image.id)
    )
