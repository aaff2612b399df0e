"""``unionfs image pull`` and ``push``: images from registries and to them."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError
from functools import partial
from typing import TYPE_CHECKING

from unionfs.cli import exporting, storing
from unionfs.cli.context import Context, ending_cleanly
from unionfs.cli.tree import Branch, Parser

if TYPE_CHECKING:
    from unionfs.image.skopeo import Access


def register(images: Branch) -> None:
    """Add the commands to those of images."""
    pull = images.command(
        "pull", ending_cleanly(_pull), "store an image from a registry and print its ID"
    )
    pull.add_argument("reference", metavar="REFERENCE", help="[HOST[:PORT]/]PATH[:TAG][@DIGEST]")
    storing.add_options(
        pull,
        name="what to call it (default: as REFERENCE does)",
        so_that="they can be pushed again as such",
    )
    _add_access(pull)
    push = images.command(
        "push", ending_cleanly(_push), "send an image to a registry and print its manifest's digest"
    )
    push.add_argument("image", metavar="IMAGE")
    push.add_argument("reference", metavar="REFERENCE", help="[HOST[:PORT]/]PATH[:TAG]")
    _add_access(push)


def _add_access(parser: Parser) -> None:
    group = parser.add_argument_group("registry", "as skopeo's options of the same names")
    group.add_argument("--creds", metavar="USER[:PASSWORD]", help="who you are to the registry")
    group.add_argument("--authfile", metavar="FILE", help="where skopeo login has put that")
    group.add_argument(
        "--tls-verify",
        metavar="true|false",
        type=_truth,
        help="false: plain HTTP and unknown certificates will do",
    )


def _truth(word: str) -> bool:
    if word not in ("true", "false"):
        raise ArgumentTypeError(f"{word!r} is neither true nor false")
    return word == "true"


def _access(context: Context) -> Access:
    from unionfs.image.skopeo import Access

    args = context.args
    if args.authfile is not None:
        with open(args.authfile, "rb"):  # skopeo takes one that is not there for an empty one
            pass
    return Access(args.creds, args.authfile, args.tls_verify)


def _pull(context: Context) -> int:
    from unionfs.image.pull import pull_image

    get = partial(pull_image, reference=context.args.reference, access=_access(context))
    return storing.store_image(context, get)


def _push(context: Context) -> int:
    from unionfs.cli.progress import import_progress
    from unionfs.image.push import push_image

    terminal = sys.stderr if sys.stderr.isatty() and not context.quiet else None
    with context.store() as store:
        image = store.images.resolve(context.args.image)
        found = push_image(
            store,
            image,
            context.args.reference,
            import_progress(quiet=context.quiet, done="ready"),
            access=_access(context),
            terminal=terminal,
        )
    exporting.report(context, image, found)
    return 0
