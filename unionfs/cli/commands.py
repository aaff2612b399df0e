"""The command tree and running one command of it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache

from unionfs import __version__
from unionfs.cli import (
    browse,
    checking,
    committing,
    container,
    df,
    explain,
    gc,
    image,
    layer,
    mounting,
    running,
    serving,
    stats,
    trace,
)
from unionfs.cli.context import Context
from unionfs.cli.helper import USAGE
from unionfs.cli.main import after_global_options
from unionfs.cli.tree import Branch, CommandLineError, Parser, add_global_options

_DESCRIPTION = "Mount container root filesystems from images."
_OPTIONS = ("--help", "--version", "--")
_LETTERS = ("h", "q", "v", "V")  # of what may stand together, as in -qh
_EPILOG = """\
IMAGE, CONTAINER and LAYER are names, IDs or the beginning of one.

The form that mount(8) and container engines call:
"""


def run(argv: Sequence[str]) -> int:
    """Run the command of *argv* (program name first) and return its exit status.

    Raises UnionfsError and OSError for what fails; SystemExit after ``--help``.
    """
    words = list(argv[1:])
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    _refuse_unknown_option(words)
    args = build().parse_args(words)
    status: int = args.handler(Context.of(args))
    return status


def _refuse_unknown_option(words: Sequence[str]) -> None:
    """Name an unknown option before the command; argparse names what it takes for the command."""
    first = next(iter(after_global_options(words)), "")
    if first.startswith("-") and first not in _OPTIONS and first[1:2] not in _LETTERS:
        raise CommandLineError(f"unknown option {first} (see: unionfs --help)")


@cache
def build() -> Parser:
    """Return the parser of the whole command tree, which takes 20 ms to make."""
    parser = Parser(
        prog="unionfs",
        description=_DESCRIPTION,
        epilog=f"{_EPILOG}\n{USAGE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_global_options(parser, top=True)
    parser.add_argument("-V", "--version", action="version", version=f"unionfs {__version__}")
    commands = Branch(parser)
    containers = (container, committing, mounting, running)
    for noun in (
        image,
        layer,
        *containers,
        df,
        gc,
        checking,
        explain,
        stats,
        trace,
        browse,
        serving,
    ):
        noun.register(commands)
    return parser
