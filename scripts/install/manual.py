"""The manual page ``unionfs.1``, in man(7)'s language, made from the command tree."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Iterable, Iterator

from scripts.install.words import Command, Operand, Option
from unionfs import __version__
from unionfs.cli.helper import USAGE
from unionfs.cli.option_help import EXPLAINED

_DESCRIPTION = (
    "mounts container root filesystems from images. The read-only layers of an image are stacked "
    "under one writable directory for each container; changes go there, and the layers are never "
    "written to. Any other directories can be stacked in the same way, by mount(8) and by "
    "container engines, in the place of fuse-overlayfs.",
    "IMAGE, CONTAINER and LAYER are names, IDs or the beginning of one. TARGET is a mount point.",
)
_DIRECTORIES = (
    ("lowerdir=DIR[:DIR…]", r"the layers, topmost first; a colon in a name is \:, a comma \,"),
    ("upperdir=DIR", "where changes go; without it the mount is read-only"),
    ("workdir=DIR", "an empty directory on the filesystem of upperdir, which needs it"),
)
_EXIT = (
    ("0", "It is done; a mount answers."),
    ("1", "It failed. One line on standard error says why."),
    ("2", "The command line is wrong."),
    ("130", "It was interrupted (128 and the number of the signal)."),
)
_ENVIRONMENT = (
    ("UNIONFS_ROOT", "The store, where --root is not given."),
    ("UNIONFS_SERVE", "The socket of the resident spawner (unionfs serve)."),
    ("UNIONFS_PURE", "If 1, go without the C extension."),
)
_FILES = (
    ("/var/lib/unionfs", "The store of root."),
    ("~/.local/share/unionfs", "The store of an ordinary user."),
    ("/run/unionfs/serve", "The socket of root's resident spawner."),
    (
        "$XDG_RUNTIME_DIR/unionfs/serve",
        "That of an ordinary user, also where he is root of a user namespace.",
    ),
)
_EXAMPLES = (
    "unionfs image import docker-archive:hello.tar --name hello",
    "unionfs create hello --name web",
    "unionfs mount web /mnt/web",
    "unionfs explain web /bin/vi",
    "unionfs umount web",
    "mount -t fuse.unionfs overlay /mnt -o lowerdir=/a:/b,upperdir=/u,workdir=/w",
)
_SEE_ALSO = "fstab(5), fuse(4), mount(8), fusermount3(1), podman(1), buildah(1)"


def page(program: Command, *, seconds: int) -> str:
    """Return the page for *program*, dated *seconds* after 1970 (UTC)."""
    return "\n".join(_lines(program, time.strftime("%Y-%m-%d", time.gmtime(seconds)))) + "\n"


def alias() -> str:
    """Return the page ``mount.fuse.unionfs.8``, which is the same one."""
    return ".so man1/unionfs.1\n"


def _lines(program: Command, date: str) -> Iterator[str]:
    yield f'.TH UNIONFS 1 "{date}" "unionfs {__version__}" "User Commands"'
    yield from (".SH NAME", r"unionfs, mount.fuse.unionfs \- union filesystem for containers")
    yield ".SH SYNOPSIS"
    yield from (".B unionfs", roff("[OPTION…] COMMAND …"), ".PP")
    yield from _verbatim(USAGE.partition("\n\n")[0].replace("usage: ", "", 1).split("\n"))
    yield from (".SH DESCRIPTION", ".B unionfs")
    yield from (*_filled(_DESCRIPTION[0]), ".PP", *_filled(_DESCRIPTION[1]))
    yield from (".SH OPTIONS", "These stand before a command or after it.")
    yield from _options(program)
    yield ".SH COMMANDS"
    for command in program.walk():
        if not command.commands:
            yield from _command(command, program)
    yield ".SH MOUNT HELPER"
    yield "The form that mount(8) and container engines call."
    yield from _verbatim(USAGE.partition("\n\n")[2].splitlines())
    yield from (".SH MOUNT OPTIONS", "Of")
    yield from (
        ".B unionfs mount \\-o",
        "and of the mount helper; the first three of that alone.",
    )
    yield from _tagged((*_DIRECTORIES, *_mount_options()))
    for title, rows in (("EXIT STATUS", _EXIT), ("ENVIRONMENT", _ENVIRONMENT), ("FILES", _FILES)):
        yield f".SH {title}"
        yield from _tagged(rows)
    yield ".SH EXAMPLES"
    yield from _verbatim(_EXAMPLES)
    yield from (".SH SEE ALSO", roff(_SEE_ALSO))


def _command(command: Command, program: Command) -> Iterator[str]:
    yield f'.SS "{roff(" ".join(command.words[1:]))}"'
    for number, usage in enumerate(_usage(command, program)):
        yield from [".br"] * (number > 0)
        yield from (f".B {roff(' '.join(command.words))}", *([roff(usage)] if usage else []))
    yield from (".PP", *_filled(_sentences(command)))
    yield from _options(command, program)
    for operand in command.operands:
        if operand.help:
            yield from _tag(operand.value.name, operand.help)


def _usage(command: Command, program: Command) -> list[str]:
    start = " ".join(command.words)
    if command.usage:
        return [line.strip().removeprefix(start).strip() for line in command.usage.split("\n")]
    words = ["[OPTION…]"] if _own(command, program) else []
    return [" ".join([*words, *map(_operand, command.operands)])]


def _operand(operand: Operand) -> str:
    name = operand.value.name
    if operand.many and not name.endswith("…"):
        name += "…"
    return f"[{name}]" if operand.optional else name


def _sentences(command: Command) -> str:
    text = " ".join(command.description.split())
    if command.aliases:
        text += f" Also called {', '.join(command.aliases)}."
    return text


def _own(command: Command, program: Command) -> list[Option]:
    common = {"-h", *(flag for option in program.options for flag in option.flags)}
    return [option for option in command.options if not common & set(option.flags)]


def _options(command: Command, program: Command | None = None) -> Iterator[str]:
    for option in command.options if program is None else _own(command, program):
        value = option.value
        shown = "" if value is None else f" {'|'.join(value.choices) or value.name}"
        yield from _tag(", ".join(option.flags) + shown, option.help)


def _mount_options() -> Iterator[tuple[str, str]]:
    """Yield the options of the help text with their meanings, which go on where a name would be."""
    for row in re.split(r"\n  (?=\S)", "\n" + EXPLAINED.rstrip())[1:]:
        name, meaning = re.split(r"  +", row, maxsplit=1)
        yield name, " ".join(meaning.split())


def _tagged(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for tag, text in rows:
        yield from _tag(tag, text)


def _tag(tag: str, text: str) -> Iterator[str]:
    yield from (".TP", f".B {roff(tag)}", *_filled(text))


def _verbatim(lines: list[str] | tuple[str, ...]) -> Iterator[str]:
    yield ".nf"
    for line in filter(None, lines):
        yield roff(line.strip() if line.startswith("       ") else line)
    yield ".fi"


def _filled(text: str) -> list[str]:
    """Return *text* in short lines, as pages are written; roff fills them again."""
    return [roff(line) for line in textwrap.wrap(text, 70, break_on_hyphens=False)]


def roff(text: str) -> str:
    r"""Return *text* so that roff prints it as it is: ``\``, ``-``, ``"``, first dots, not ASCII.

    An ellipsis becomes three dots, as pages spell it: terminals of an ASCII locale have none.
    """
    for character, spelled in (("\\", r"\e"), ("…", "..."), ("-", r"\-"), ('"', r"\(dq")):
        text = text.replace(character, spelled)
    text = "".join(c if c.isascii() else rf"\[u{ord(c):04X}]" for c in text)
    return rf"\&{text}" if text[:1] in (".", "'") else text
