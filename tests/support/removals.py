"""What the layers of an image remove, by their tars alone: an oracle for who deleted what."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.images import Layout

_MARK, _OPAQUE = ".wh.", ".wh..wh..opq"


def layer_tars(layout: Path, reference: str) -> Iterator[Path]:
    """Yield the blobs of the layers of an image, bottommost first."""
    found = Layout.__new__(Layout)  # read, not made
    found.path = layout
    index = json.loads((layout / "index.json").read_text())
    [entry] = [
        one
        for one in index["manifests"]
        if one["annotations"]["org.opencontainers.image.ref.name"] == reference
    ]
    manifest = json.loads(found.blob_path(entry["digest"]).read_text())
    for layer in manifest["layers"]:
        yield found.blob_path(layer["digest"])


def removed(layout: Path, reference: str) -> dict[bytes, int]:
    """Return each path that a layer has and the image does not, with the layer that hides it.

    Layers are counted from the bottom and from 1. The topmost that hides a path is named: a lookup
    comes no further.
    """
    there: set[bytes] = set()
    gone: dict[bytes, int] = {}
    for number, blob in enumerate(layer_tars(layout, reference), start=1):
        below = set(
            there
        )  # a whiteout says nothing of its own layer, wherever in the tar it stands
        with tarfile.open(blob) as tar:
            members = list(tar)
        for member in members:
            for path in _hidden(below | gone.keys(), member):
                there.discard(path)
                gone[path] = number
        for member in members:
            path = _path(member.name)
            if not os.path.basename(path).startswith(_MARK.encode()):
                there.add(path)
                gone.pop(path, None)
    return gone


def _hidden(paths: set[bytes], member: tarfile.TarInfo) -> list[bytes]:
    """Return those of *paths* that *member* of a layer above hides."""
    path = _path(member.name)
    folder, name = os.path.split(path)
    if name == _OPAQUE.encode():
        return [one for one in paths if one.startswith(folder.rstrip(b"/") + b"/")]
    if name.startswith(_MARK.encode()):
        path = os.path.join(folder, name[len(_MARK) :])
        return [one for one in paths if one == path or one.startswith(path + b"/")]
    return [] if member.isdir() else [one for one in paths if one.startswith(path + b"/")]


def _path(name: str) -> bytes:
    return b"/" + os.path.normpath(os.fsencode(name)).strip(b"/").removeprefix(b".")
