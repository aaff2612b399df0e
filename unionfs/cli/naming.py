"""``unionfs image tag``, ``untag`` and ``rm``: names of images, and images that lose their last."""

from __future__ import annotations

from unionfs.cli import output
from unionfs.cli.context import Context, note
from unionfs.cli.tree import Branch


def register(images: Branch) -> None:
    """Add the commands to those of images."""
    tag = images.command("tag", _tag, "give an image one more name")
    tag.add_argument("image", metavar="IMAGE")
    tag.add_argument("name", metavar="NAME[:TAG]", help="another image that has it loses it")
    untag = images.command("untag", _untag, "take names away; their images stay")
    untag.add_argument("names", metavar="NAME[:TAG]", nargs="+")
    rm = images.command("rm", _rm, "remove names of images, and images without any left")
    rm.add_argument("images", metavar="IMAGE", nargs="+")
    rm.add_argument(
        "-f",
        "--force",
        action="store_true",
        help="an ID with all its names; what is not there is no error",
    )


def _tag(context: Context) -> int:
    args = context.args
    with context.store() as store:
        image = store.images.resolve(args.image)
        before = store.images.tag(image.id, args.name)
        names = store.images.get(image.id).names
    if before is not None:
        note(f"{args.name} was a name of image {before} before")
    if context.json:
        output.print_json({"id": str(image.id), "names": list(names), "taken_from": before})
    return 0


def _untag(context: Context) -> int:
    with context.store() as store:
        names = store.images.untag(context.args.names)
    if context.json:
        output.print_json({"names": list(names)})
        return 0
    for name in names:
        print(f"removed name {name}")
    return 0


def _rm(context: Context) -> int:
    from unionfs.container.images import remove_images

    args = context.args
    with context.store() as store:
        removed = remove_images(store, args.images, force=args.force, note=note)
    if context.json:
        output.print_json(
            {
                "names": list(removed.names),
                "images": [str(one) for one in removed.images],
                "layers": [str(one) for one in removed.layers],
            }
        )
        return 0
    if len(removed.names) > len(removed.images):
        for name in removed.names:
            print(f"removed name {name}")
    for image in removed.images:
        print(f"removed image {image}")
    for layer in removed.layers:
        print(f"removed layer {layer}")
    return 0
