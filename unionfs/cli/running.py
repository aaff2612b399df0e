"""Programs in containers: run, bundle."""

from __future__ import annotations

import argparse
import os

from unionfs.cli import output
from unionfs.cli.context import Context, find_container, note
from unionfs.cli.tree import Branch

RUNTIMES = ("crun", "runc", "bubblewrap")


def register(commands: Branch) -> None:
    """Add the commands of this module."""
    run = commands.command("run", _run, "run a program in a container, or in a new one of an image")
    run.usage = "unionfs run [OPTION…] IMAGE-or-CONTAINER [--] [CMD…]"
    run.add_argument("subject", metavar="IMAGE-or-CONTAINER")
    run.add_argument(
        "words", metavar="CMD…", nargs=argparse.REMAINDER, help="default: what the image says"
    )
    run.add_argument("--rm", action="store_true", help="remove the container afterwards")
    run.add_argument("--name", help="what to call a new container")
    run.add_argument("--runtime", choices=RUNTIMES, help="default: the first that works")
    run.add_argument(
        "-e", "--env", metavar="NAME[=VALUE]", action="append", default=[], help="for the program"
    )
    run.add_argument("-w", "--workdir", metavar="DIR", default="", help="where it starts")
    run.add_argument("-u", "--user", metavar="USER[:GROUP]", default="", help="who it runs as")
    run.add_argument(
        "--network", choices=("host", "none"), default="host", help="default: the host's"
    )
    bundle = commands.command("bundle", _bundle, "write an OCI runtime bundle for runc or crun")
    bundle.add_argument("container", metavar="CONTAINER")
    bundle.add_argument("directory", metavar="DIR")
    bundle.add_argument("-t", "--tty", action="store_true", help="give the process a terminal")


def _run(context: Context) -> int:
    from unionfs.container.process import Overrides
    from unionfs.container.run import Order, run

    args = context.args
    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    order = Order(
        subject=args.subject,
        overrides=Overrides(tuple(words), tuple(args.env), args.workdir, args.user),
        name=args.name,
        runtime=args.runtime,
        remove=args.rm,
        private_network=args.network == "none",
    )
    return run(context.root, order, note)


def _bundle(context: Context) -> int:
    from unionfs.container.bundle import bundle

    args = context.args
    with context.store() as store:
        container = find_container(store, args.container, "unionfs create {}")
    path = bundle(context.root, container, args.directory, terminal=args.tty, note=note)
    if context.json:
        output.print_json({"config": os.path.abspath(path)})
    else:
        output.print_path(os.fsencode(path))
    return 0
