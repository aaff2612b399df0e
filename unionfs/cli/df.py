"""``unionfs df``: what is shared and what is own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unionfs.cli import output
from unionfs.cli.context import Context
from unionfs.cli.tree import Branch

if TYPE_CHECKING:
    from unionfs.container.usage import Usage

_EMPTY = {"layers": 0, "layer_bytes": 0, "container_bytes": 0, "images": [], "containers": []}


def register(commands: Branch) -> None:
    """Add the command of this module."""
    commands.command("df", _df, "show what images and containers take, shared and own")


def _df(context: Context) -> int:
    from unionfs.container.usage import usage

    document: dict[str, Any] = _EMPTY
    if context.has_store():
        with context.store() as store:
            document = _document(usage(store))
    if context.json:
        output.print_json(document)
    else:
        _print(document)
    return 0


def _document(found: Usage) -> dict[str, Any]:
    """Return *found* as a document; all sizes are bytes."""
    return {
        "layers": found.layers,
        "layer_bytes": found.layer_bytes,
        "container_bytes": found.container_bytes,
        "images": [
            {
                "id": str(one.image.id),
                "names": list(one.image.names),
                "shared": one.shared,
                "own": one.own,
                "containers": one.containers,
            }
            for one in found.images
        ],
        "containers": [
            {
                "id": one.container.id,
                "name": one.container.name,
                "image_id": str(one.container.image_id),
                "own": one.own,
                "shared": one.shared,
            }
            for one in found.containers
        ],
    }


def _print(document: dict[str, Any]) -> None:
    output.print_table(
        ("IMAGE", "IMAGE ID", "SHARED WITH OTHERS", "OWN", "CONTAINERS"),
        [
            (
                output.image_label(one["names"], "<none>"),
                one["id"].partition(":")[2][:12],
                output.size(one["shared"]),
                output.size(one["own"]),
                str(one["containers"]),
            )
            for one in document["images"]
        ],
    )
    print()
    output.print_table(
        ("CONTAINER", "CONTAINER ID", "SHARED WITH IMAGE", "OWN"),
        [
            (one["name"], one["id"][:12], output.size(one["shared"]), output.size(one["own"]))
            for one in document["containers"]
        ],
    )
    layers, containers = document["layer_bytes"], document["container_bytes"]
    print(
        f"\nTotal, each layer once: {output.size(layers)} in"
        f" {output.counted(document['layers'], 'layer')} + {output.size(containers)} in"
        f" {output.counted(len(document['containers']), 'container')}"
        f" = {output.size(layers + containers)}"
    )
