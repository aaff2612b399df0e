"""The stack of an image with the names that people call its layers by."""

from __future__ import annotations

import os

from unionfs.inspect.history import layer_commands
from unionfs.inspect.stack import FIXUP, LayerName, Source
from unionfs.options import LowerName
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


def lower_layers(
    store: Store, image: ImageRecord
) -> tuple[tuple[bytes, ...], tuple[LowerName, ...]]:
    """Return what ``MountConfig`` has of the layers of *image*: directories, and names for them.

    Raises as ``layer_names``.
    """
    names = layer_names(store, image)
    paths = tuple(name.path for name in names)
    return paths, tuple(LowerName(name.number or 0, name.digest or "") for name in names)


def whole_image(store: Store, image: ImageRecord) -> tuple[Source, frozenset[bytes]]:
    """Return all layers of *image*, those too that can show nothing, each once.

    And the directories of those whose root hides all that is below. Raises as ``layer_names``.
    """
    commands = layer_commands(image.history, len(image.diff_ids))
    places = {diff_id: place for place, diff_id in enumerate(image.diff_ids, start=1)}
    names, opaque = [], set()
    for diff_id in dict.fromkeys(reversed(image.diff_ids)):
        path = os.fsencode(store.layers.readable_path(diff_id))
        place = places[diff_id]
        names.append(LayerName(f"layer {place}", path, place, str(diff_id), commands[place - 1]))
        if store.layers.sidecar(diff_id).root_opaque:
            opaque.add(path)
    if not names:
        names.append(LayerName(FIXUP, os.fsencode(store.images.stack(image.id)[0])))
    label = image.names[0] if image.names else image.id.short
    return Source(f"image {label}", tuple(names), flavour=store.flavour), frozenset(opaque)
