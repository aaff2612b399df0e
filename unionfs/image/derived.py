"""The config of an image that is another one and a layer more (image-spec config.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unionfs.digest import Digest
from unionfs.image.clock import timestamp
from unionfs.image.plan import new_image, read_config
from unionfs.store.records import ImageRecord, NewImage

# What Docker's older configs say of the container that an image was made of.
_OF_THE_BASE = ("author", "container", "container_config", "docker_version", "id", "parent")


@dataclass(frozen=True, slots=True)
class Step:
    """What history tells of how an image was made: by what, a comment, by whom."""

    made_by: str
    comment: str = ""
    author: str = ""


def derived_image(
    base: ImageRecord, layer: Digest | None, run_config: Mapping[str, Any], step: Step
) -> NewImage:
    """Return *base* with the *layer* on top (None: nothing changed), to be run as *run_config*.

    The same input gives the same image while SOURCE_DATE_EPOCH is set. Raises BadEpochError.
    """
    created = timestamp()
    document = {key: value for key, value in base.config.items() if key not in _OF_THE_BASE}
    diff_ids = [*map(str, base.diff_ids), *([] if layer is None else [str(layer)])]
    author = {"author": step.author} if step.author else {}
    entry = {
        "created": created,
        "created_by": step.made_by,
        **author,
        **({"comment": step.comment} if step.comment else {}),
        **({"empty_layer": True} if layer is None else {}),
    }
    document |= {
        "created": created,
        **author,
        "config": dict(run_config),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [*base.history, entry],
    }
    data = json.dumps(document, separators=(",", ":")).encode()
    return new_image(Digest.of(data), data, read_config(data), None)
