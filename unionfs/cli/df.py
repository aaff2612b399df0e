"""``unionfs df``: what is shared and what is own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unionfs.cli import output
from unionfs.cli.context import Context
from unionfs.cli.tree import Branch

if TYPE_CHECKING:
    from unionfs.container.usage import Usage

_EMPTY = {
    "layers": 0,
    "layer_bytes": 0,
    "layer_bytes_on_disk": 0,
    "blobs": 0,
    "blob_bytes_on_disk": 0,
    "container_bytes": 0,
    "garbage_bytes_on_disk": 0,
    "images": [],
    "containers": [],
}


def register(commands: Branch) -> None:
    """Add the command of this module."""
    commands.command(
        "df",
        _df,
        "show what images and containers take, shared and own, and what removing them frees",
    )


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
        "layers": found.layer_count,
        "layer_bytes": found.layers.apparent,
        "layer_bytes_on_disk": found.layers.on_disk,
        "blobs": found.blob_count,
        "blob_bytes_on_disk": found.blobs,
        "container_bytes": found.in_containers.on_disk,
        "garbage_bytes_on_disk": found.garbage,
        "images": [
            {
                "id": str(one.image.id),
                "names": list(one.image.names),
                "shared": one.shared.apparent,
                "shared_on_disk": one.shared.on_disk,
                "own": one.own.apparent,
                "own_on_disk": one.own.on_disk,
                "blobs_on_disk": one.blobs,
                "removing_frees": one.frees,
                "containers": one.containers,
            }
            for one in found.images
        ],
        "containers": [
            {
                "id": one.container.id,
                "name": one.container.name,
                "image_id": str(one.container.image_id),
                "own": one.own.on_disk,
                "own_apparent": one.own.apparent,
                "shared": one.shared,
                "removing_frees": one.frees,
            }
            for one in found.containers
        ],
    }


def _print(document: dict[str, Any]) -> None:
    output.print_table(
        (
            "IMAGE",
            "IMAGE ID",
            "SHARED WITH OTHERS",
            "OWN",
            "ON DISK",
            "KEPT BLOBS",
            "CONTAINERS",
            "REMOVING FREES",
        ),
        [_image_row(one) for one in document["images"]],
    )
    print()
    output.print_table(
        (
            "CONTAINER",
            "CONTAINER ID",
            "SHARED WITH IMAGE",
            "OWN",
            "ON DISK",
            "REMOVING FREES",
        ),
        [
            (
                one["name"],
                one["id"][:12],
                *map(
                    output.size,
                    (one["shared"], one["own_apparent"], one["own"], one["removing_frees"]),
                ),
            )
            for one in document["containers"]
        ],
    )
    print()
    for line in _totals(document):
        print(line)


def _image_row(one: dict[str, Any]) -> tuple[str, ...]:
    frees = one["removing_frees"]
    return (
        output.image_label(one["names"], "<none>"),
        one["id"].partition(":")[2][:12],
        output.size(one["shared"]),
        output.size(one["own"]),
        output.size(one["shared_on_disk"] + one["own_on_disk"]),
        output.size(one["blobs_on_disk"]),
        str(one["containers"]),
        "(in use)" if frees is None else output.size(frees),
    )


def _totals(document: dict[str, Any]) -> list[str]:
    layers, blobs = document["layer_bytes_on_disk"], document["blob_bytes_on_disk"]
    containers, garbage = document["container_bytes"], document["garbage_bytes_on_disk"]
    lines = [
        f"Total on disk, each layer once: {output.size(layers)} in"
        f" {output.counted(document['layers'], 'layer')} + {output.size(blobs)} in"
        f" {output.counted(document['blobs'], 'kept blob')} + {output.size(containers)} in"
        f" {output.counted(len(document['containers']), 'container')}"
        f" = {output.size(layers + blobs + containers)}"
    ]
    if blobs:
        lines.append("Kept blobs can be dropped: unionfs gc --blobs")
    if garbage:
        lines.append(f"Nothing refers to {output.size(garbage)}: unionfs gc")
    return lines
