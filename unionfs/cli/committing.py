"""``unionfs commit``: a container becomes an image."""

from __future__ import annotations

from unionfs.cli import storing
from unionfs.cli.context import Context, ending_cleanly, find_container
from unionfs.cli.tree import Branch


def register(commands: Branch) -> None:
    """Add the command of this module."""
    parser = commands.command(
        "commit",
        ending_cleanly(_commit),
        "make an image of what a container changed and print its ID",
    )
    parser.add_argument("container", metavar="CONTAINER")
    parser.add_argument("name", metavar="NAME[:TAG]")
    parser.add_argument("-m", "--message", default="", help="what history says of it")
    parser.add_argument("-a", "--author", default="", help="who made it")
    parser.add_argument(
        "-c",
        "--change",
        metavar="INSTRUCTION",
        action="append",
        default=[],
        help="CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME or WORKDIR, as in a Dockerfile",
    )
    parser.add_argument(
        "--keep-unchanged",
        action="store_true",
        help="put files into the layer that were copied up and not changed",
    )
    parser.add_argument(
        "--live",
        action="store_true",
        help="also while programs may write to files through shared maps",
    )
    parser.add_argument(
        "--rebase",
        action="store_true",
        help="make the container one of the new image, with nothing changed",
    )


def _commit(context: Context) -> int:
    from unionfs.cli.progress import import_progress
    from unionfs.container.commit import Wanted, commit

    args = context.args
    wanted = Wanted(
        message=args.message,
        author=args.author,
        changes=args.change,
        keep_unchanged=args.keep_unchanged,
        live=args.live,
        rebase=args.rebase,
    )
    with (
        context.store() as store,
        import_progress(quiet=context.quiet, nameless="changes") as progress,
    ):
        container = find_container(store, args.container, "unionfs create {}")
        progress.layer_started(None, None)
        image = commit(
            store, container, args.name, wanted, lambda count: progress.advanced(None, count)
        )
    storing.say(context, image)
    return 0
