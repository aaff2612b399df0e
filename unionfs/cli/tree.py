"""Making the command tree: a parser that raises, and branches that commands are added to."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from unionfs.errors import UsageError

if TYPE_CHECKING:
    from unionfs.cli.context import Context

    Handler = Callable[[Context], int]

_COMMAND = "COMMAND"


class CommandLineError(UsageError):
    """The words do not make a command."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are UsageError, and which guesses no abbreviations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Raise CommandLineError with *message* and where to read more."""
        raise CommandLineError(f"{message} (see: {self.prog} --help)")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Complain of a word that is no command; argparse would list all that there are."""
        if action.metavar == _COMMAND and action.choices and value not in action.choices:
            self.error(f"no such command: {value}")
        super()._check_value(action, value)


class Branch:
    """The commands below one word, or below the program itself."""

    def __init__(self, parser: Parser) -> None:
        self._commands = parser.add_subparsers(metavar=_COMMAND, title="commands", required=True)

    def command(
        self, name: str, handler: Handler, summary: str, *, aliases: tuple[str, ...] = ()
    ) -> Parser:
        """Add the command *name* and return its parser, for its own words."""
        parser = self._parser(name, summary, aliases)
        parser.set_defaults(handler=handler)
        add_global_options(parser, top=False)
        return parser

    def branch(self, name: str, summary: str) -> Branch:
        """Add the word *name* and return the branch below it."""
        return Branch(self._parser(name, summary, ()))

    def _parser(self, name: str, summary: str, aliases: tuple[str, ...]) -> Parser:
        description = summary[0].upper() + summary[1:] + "."
        return self._commands.add_parser(
            name, help=summary, description=description, aliases=aliases
        )


def add_global_options(parser: Parser, *, top: bool) -> None:
    """Add the options that stand before or after a command.

    After it (*top* False) they have no default of their own, or it would undo what stood before.
    """
    group = parser.add_argument_group("global options")

    def default(value: object) -> Any:
        return value if top else argparse.SUPPRESS

    group.add_argument(
        "--root",
        metavar="DIR",
        default=default(None),
        help="the store (default: $UNIONFS_ROOT, else /var/lib/unionfs for root, "
        "else ~/.local/share/unionfs)",
    )
    group.add_argument(
        "--json", action="store_true", default=default(False), help="print one JSON document"
    )
    group.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=default(0),
        help="say more; twice: tracebacks (before the command only)",
    )
    group.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        default=default(False),
        help="no progress; in listings only IDs",
    )
