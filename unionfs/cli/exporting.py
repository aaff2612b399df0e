"""``unionfs image export``: an image as files that other tools read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unionfs.cli import output
from unionfs.cli.context import Context, ending_cleanly, note
from unionfs.cli.tree import Branch

if TYPE_CHECKING:
    from unionfs.image.exporter import Exported
    from unionfs.store.records import ImageRecord


def register(images: Branch) -> None:
    """Add the command to those of images."""
    parser = images.command(
        "export", ending_cleanly(_export), "write an image to files that other tools read"
    )
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument(
        "destination",
        metavar="DEST",
        help="oci:DIR[:REF], oci-archive:FILE[:REF] or docker-archive:FILE",
    )
    parser.add_argument(
        "--compression",
        choices=("gzip", "zstd", "none"),
        help="of layers (default: as they came; plain tars in a docker-archive)",
    )


def _export(context: Context) -> int:
    from unionfs.cli.progress import import_progress
    from unionfs.image.exporter import export_image

    args = context.args
    with (
        context.store() as store,
        import_progress(quiet=context.quiet, done="written") as progress,
    ):
        image = store.images.resolve(args.image)
        found = export_image(
            store,
            image,
            args.destination,
            name=_called(image, args.image),
            compression=args.compression,
            progress=progress,
        )
    report(context, image, found)
    return 0


def report(context: Context, image: ImageRecord, found: Exported) -> None:
    """Print what was written of *image*, and note which layers are not what they came as."""
    if context.json:
        output.print_json(_document(image, found))
        return
    changed = sum(layer.has_changed for layer in found.layers)
    if changed and found.manifest is not None:
        note(
            f"{changed} of {output.counted(len(found.layers), 'layer')} compressed anew: with other"
            " blob digests than they were imported with (--json says which)"
        )
    print(found.manifest or image.id)


def _called(image: ImageRecord, text: str) -> str | None:
    """Return the name of *image* that *text* is, or its first."""
    from unionfs.store.names import BadNameError, image_name

    try:
        full = image_name(text)
    except BadNameError:
        full = ""
    named = [name for name in image.names if name == full or name.endswith(f"/{full}")]
    return next(iter([*named, *image.names]), None)


def _document(image: ImageRecord, found: Exported) -> dict[str, Any]:
    return {
        "id": str(image.id),
        "manifest_digest": None if found.manifest is None else str(found.manifest),
        "layers": [
            {
                "diff_id": str(layer.diff_id),
                "media_type": layer.media_type,
                "digest": str(layer.digest),
                "size": layer.size,
                "imported_as": None if layer.before is None else str(layer.before),
            }
            for layer in found.layers
        ],
    }
