"""What ``image import`` and ``image pull`` have in common: options, progress, what is printed."""

from __future__ import annotations

from argparse import BooleanOptionalAction
from typing import TYPE_CHECKING, Protocol, Unpack

from unionfs.cli import output
from unionfs.cli.context import Context
from unionfs.cli.tree import Parser

if TYPE_CHECKING:
    from unionfs.image.wishes import Wishes
    from unionfs.store.records import ImageRecord
    from unionfs.store.store import Store


class Get(Protocol):
    """Stores an image, as the options wish, and returns its record."""

    def __call__(self, store: Store, **wishes: Unpack[Wishes]) -> ImageRecord:
        """Do it. Raises UnionfsError."""


def add_options(parser: Parser, *, name: str, so_that: str) -> None:
    """Add the options; *name* is the help for that, *so_that* why blobs are kept."""
    parser.add_argument("--name", metavar="NAME[:TAG]", help=name)
    parser.add_argument(
        "--platform", metavar="OS/ARCH[/VARIANT]", help="which of several (default: this machine's)"
    )
    parser.add_argument(
        "--keep-blobs",
        action=BooleanOptionalAction,
        default=True,
        help=f"keep compressed layers as they came too, so that {so_that}",
    )


def store_image(context: Context, get: Get) -> int:
    """Do what *get* does with progress shown, and say which image it is."""
    from unionfs.cli.progress import import_progress
    from unionfs.container.indexing import make_index

    args = context.args
    with (
        context.store(create=True) as store,
        import_progress(quiet=context.quiet) as progress,
    ):
        image = get(
            store,
            name=args.name,
            platform=args.platform,
            progress=progress,
            keep_blobs=args.keep_blobs,
        )
        make_index(store, image)
    say(context, image)
    return 0


def say(context: Context, image: ImageRecord) -> None:
    """Print the ID of an image that was made or stored."""
    if context.json:
        output.print_json({"id": str(image.id), "names": list(image.names)})
    else:
        print(image.id)
