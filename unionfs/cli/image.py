"""``unionfs image``: import, ls, inspect; the others are beside this."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from unionfs.cli import (
    anatomy,
    exporting,
    history,
    naming,
    output,
    registry,
    report,
    storing,
    verifying,
)
from unionfs.cli.context import Context, ending_cleanly
from unionfs.cli.tree import Branch
from unionfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unionfs.digest import Digest
    from unionfs.store.records import ImageRecord
    from unionfs.store.store import Store
    from unionfs.tarball.limits import Limits


class BadLimitError(UsageError):
    """A ``--limit`` does not name a limit and a number."""


def register(commands: Branch) -> None:
    """Add the commands of this noun."""
    images = commands.branch("image", "import, export, list, inspect, name and remove images")
    _register_import(images)
    exporting.register(images)
    registry.register(images)
    images.command("ls", _ls, "list images")
    inspect = images.command("inspect", _inspect, "show all that is known about an image")
    inspect.add_argument("image", metavar="IMAGE")
    naming.register(images)
    verifying.register(images)
    anatomy.register(images)
    history.register(commands, images)
    report.register(images)


def _register_import(images: Branch) -> None:
    parser = images.command(
        "import", ending_cleanly(_import), "store an image from files and print its ID"
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:REF], "
        "rootfs:DIR-or-TAR, or a path whose kind is detected",
    )
    storing.add_options(
        parser,
        name="what to call it",
        so_that="an export gives the same blobs",
    )
    parser.add_argument(
        "--limit",
        metavar="NAME=N",
        action="append",
        default=[],
        help="raise a limit that an error named, like max_entries=5000000",
    )


def _import(context: Context) -> int:
    from unionfs.image.importer import import_image

    args = context.args
    get = partial(import_image, source=args.source, limits=_limits(args.limit))
    return storing.store_image(context, get)


def _limits(words: Sequence[str]) -> Limits:
    from unionfs.tarball.limits import Limits

    known = {field.name for field in fields(Limits)}
    limits = Limits()
    for word in words:
        name, _, number = word.partition("=")
        if name not in known or not (number.isascii() and number.isdecimal()):
            raise BadLimitError(
                f"--limit {word!r}: not NAME=N with a name of {', '.join(sorted(known))}"
            )
        limits = replace(limits, **{name: int(number)})
    return limits


def _ls(context: Context) -> int:
    images: Sequence[ImageRecord] = ()
    users: Mapping[Digest, list[str]] = {}
    if context.has_store():
        with context.store() as store:
            images, users = store.images.list(), _users(store)
    if context.json:
        output.print_json([_summary(image, users.get(image.id, [])) for image in images])
    elif context.quiet:
        print(*(image.id.short for image in images), sep="\n", end="\n" if images else "")
    else:
        rows = [row for image in images for row in _rows(image)]
        output.print_table(("NAME", "TAG", "IMAGE ID", "CREATED", "LAYERS", "SIZE"), rows)
    return 0


def _rows(image: ImageRecord) -> list[tuple[str, ...]]:
    """Return a line for each name of *image*, one with ``<none>`` if it has none."""
    rest = (
        image.id.short,
        output.age(image.created),
        str(len(image.diff_ids)),
        output.size(image.size),
    )
    split = [name.rpartition(":") for name in image.names] or [("<none>", "", "<none>")]
    return [(name, tag, *rest) for name, _, tag in split]


def _users(store: Store) -> Mapping[Digest, list[str]]:
    """Return the names of the containers of each image."""
    found: dict[Digest, list[str]] = defaultdict(list)
    for container in store.containers.list():
        found[container.image_id].append(container.name)
    return found


def _summary(image: ImageRecord, containers: Sequence[str]) -> dict[str, Any]:
    return {
        "id": str(image.id),
        "names": list(image.names),
        "created": image.created,
        "imported": image.imported,
        "size": image.size,
        "layers": len(image.diff_ids),
        "containers": sorted(containers),
    }


def _inspect(context: Context) -> int:
    from unionfs.container.state import read_state

    with context.store() as store:
        image = store.images.resolve(context.args.image)
        containers = _users(store).get(image.id, [])
        sizes = {diff_id: store.layers.get(diff_id).content_size for diff_id in image.diff_ids}
    layers = [{"diff_id": str(one), "size": sizes[one]} for one in image.diff_ids]
    mounts = read_state().of_image(image.id.hex)
    document = _summary(image, containers) | {
        "mounts": [output.text_of(mounted.target) for mounted in mounts],
        "architecture": image.architecture,
        "os": image.os,
        "variant": image.variant,
        "manifest_digest": None if image.manifest_digest is None else str(image.manifest_digest),
        "chain_id": None if image.chain_id is None else str(image.chain_id),
        "layers": layers,
        "config": image.run_config,
        "history": list(image.history),
    }
    if context.json:
        output.print_json(document)
    else:
        _print(image, document)
    return 0


def _print(image: ImageRecord, document: Mapping[str, Any]) -> None:
    platform = "/".join(part for part in (image.os, image.architecture, image.variant) if part)
    output.print_fields(
        {
            "ID": str(image.id),
            "Names": image.names,
            "Created": f"{image.created or ''} ({output.age(image.created)})",
            "Imported": f"{image.imported} ({output.age(image.imported)})",
            "Platform": platform,
            "Size": f"{output.size(image.size)} ({image.size} bytes)",
            "Manifest": document["manifest_digest"] or "",
            "Containers": document["containers"],
            "Mounted at": document["mounts"],
            "Layers": [
                f"{layer['diff_id']}  {output.size(layer['size'])}" for layer in document["layers"]
            ],
            **output.config_fields(document["config"]),
        }
    )
