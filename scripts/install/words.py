"""The command tree as plain data, read from the parser itself.

The manual page and the completions are made from this, so they say what the program takes.
argparse keeps its tree in attributes with an underscore; they are read here and nowhere else.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from unionfs.cli import commands

# What a word may be, by the name that the usage gives it.
_KINDS = {
    "IMAGE": ("image",),
    "A": ("image",),
    "B": ("image",),
    "CONTAINER": ("container",),
    "CONTAINER [TARGET]": ("container", "directory"),
    "CONTAINER|TARGET": ("container", "directory"),
    "CONTAINER-or-TARGET": ("container", "directory"),
    "CONTAINER|IMAGE|TARGET": ("container", "image", "directory"),
    "IMAGE-or-CONTAINER": ("image", "container"),
    "LAYER": ("layer",),
    "TARGET": ("directory",),
    "DIR": ("directory",),
    "SOURCE": ("file",),
    "DEST": ("file",),
    "FILE": ("file",),
    "FILE.html": ("file",),
}


@dataclass(frozen=True, slots=True)
class Value:
    """A word that an option or a command takes.

    ``kinds`` are of image, container, layer, directory and file; ``choices`` is every word allowed,
    or empty.
    """

    name: str
    kinds: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """An option with all its spellings; ``value`` is None where it takes none."""

    flags: tuple[str, ...]
    value: Value | None
    help: str


@dataclass(frozen=True, slots=True)
class Operand:
    """A word without a dash; ``many`` when any number of them may follow one another."""

    value: Value
    optional: bool
    many: bool
    help: str


@dataclass(frozen=True, slots=True)
class Command:
    """One command, or a branch of them: ``words`` lead to it, from ``unionfs`` on."""

    words: tuple[str, ...]
    aliases: tuple[str, ...]
    summary: str
    description: str
    usage: str | None  # where argparse's own would not tell it
    options: tuple[Option, ...]
    operands: tuple[Operand, ...]
    commands: tuple[Command, ...]

    def walk(self) -> Iterator[Command]:
        """Yield this command and all below it."""
        yield self
        for command in self.commands:
            yield from command.walk()


def program() -> Command:
    """Return the whole command tree."""
    return _command(commands.build(), ("unionfs",), (), "")


def _command(
    parser: argparse.ArgumentParser, words: tuple[str, ...], aliases: tuple[str, ...], summary: str
) -> Command:
    below: tuple[Command, ...] = ()
    options, operands = [], []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            below = tuple(_below(action, words))
        elif action.option_strings:
            options.append(_option(action))
        else:
            operands.append(_operand(action))
    return Command(
        words, aliases, summary, parser.description or "", parser.usage,
        tuple(options), tuple(operands), below,
    )  # fmt: skip


def _below(
    action: argparse._SubParsersAction[argparse.ArgumentParser], words: tuple[str, ...]
) -> Iterator[Command]:
    for shown in action._choices_actions:
        parser = action.choices[shown.dest]
        aliases = tuple(n for n, p in action.choices.items() if p is parser and n != shown.dest)
        yield _command(parser, (*words, shown.dest), aliases, shown.help or "")


def _option(action: argparse.Action) -> Option:
    value = None if action.nargs == 0 else _value(action)
    if value and value.name == "PATH":  # of an operand, that is a path inside an image
        value = Value(value.name, ("file",))
    return Option(tuple(action.option_strings), value, action.help or "")


def _operand(action: argparse.Action) -> Operand:
    return Operand(
        _value(action), action.nargs in ("?", "*"), action.nargs in ("*", "+", "..."),
        action.help or "",
    )  # fmt: skip


def _value(action: argparse.Action) -> Value:
    name = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    choices = tuple(str(choice) for choice in action.choices or ())
    return Value(name if action.metavar or not choices else "WORD", _KINDS.get(name, ()), choices)
