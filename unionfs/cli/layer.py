"""``unionfs layer``: ls, inspect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unionfs.cli import output
from unionfs.cli.context import Context
from unionfs.cli.tree import Branch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unionfs.digest import Digest
    from unionfs.store.records import LayerRecord


def register(commands: Branch) -> None:
    """Add the commands of this noun."""
    layers = commands.branch("layer", "list and inspect the layers that images share")
    layers.command("ls", _ls, "list layers, each stored once")
    inspect = layers.command("inspect", _inspect, "show all that is known about a layer")
    inspect.add_argument("layer", metavar="LAYER", help="a diffID or the beginning of one")


def _ls(context: Context) -> int:
    layers: Sequence[LayerRecord] = ()
    labels: Mapping[Digest, str] = {}
    if context.has_store():
        with context.store() as store:
            layers = store.layers.list()
            labels = {i.id: output.image_label(i.names, i.id.short) for i in store.images.list()}
    if context.json:
        output.print_json([_document(layer) for layer in layers])
    elif context.quiet:
        print(*(layer.diff_id.short for layer in layers), sep="\n", end="\n" if layers else "")
    else:
        rows = [
            (
                layer.diff_id.short,
                output.age(layer.created),
                output.size(layer.content_size),
                str(layer.entries),
                ", ".join(sorted(labels.get(image, image.short) for image in layer.images)),
            )
            for layer in layers
        ]
        output.print_table(("LAYER ID", "STORED", "SIZE", "ENTRIES", "IMAGES"), rows)
    return 0


def _inspect(context: Context) -> int:
    with context.store() as store:
        layer = store.layers.get(context.args.layer)
        path = store.layers.path(layer.diff_id)
        names = {image.id: image.names for image in store.images.list()}
    if context.json:
        output.print_json(_document(layer) | {"path": path})
        return 0
    output.print_fields(
        {
            "Diff ID": str(layer.diff_id),
            "Stored": f"{layer.created} ({output.age(layer.created)})",
            "Tar size": f"{output.size(layer.tar_size)} ({layer.tar_size} bytes)",
            "Content size": f"{output.size(layer.content_size)} ({layer.content_size} bytes)",
            "Entries": str(layer.entries),
            "Path": path,
            "Images": [
                f"{image}  {', '.join(names.get(image, ()))}".rstrip() for image in layer.images
            ],
        }
    )
    return 0


def _document(layer: LayerRecord) -> dict[str, Any]:
    return {
        "diff_id": str(layer.diff_id),
        "stored": layer.created,
        "tar_size": layer.tar_size,
        "content_size": layer.content_size,
        "entries": layer.entries,
        "images": [str(image) for image in layer.images],
    }
