"""Shell completions for bash, zsh and fish, made from the command tree.

What never changes stands in ``scripts/install/shells``, one program a shell. Here its tables are
made. The names of images and containers are asked of ``unionfs`` itself when they are wanted.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from scripts.install.words import Command, Option, Value

_SHELLS = Path(__file__).parent / "shells"
_HEAD = "# Completion of unionfs for {}: made by make install from the command's own parser.\n"

# What lists the names of one kind, one a line; "$@" is a --root that stands on the line, if any.
# The listings are indented JSON, whose names need no unquoting: the store admits plain ones only.
_LISTINGS = {
    "image": r"""unionfs "$@" image ls --json 2>/dev/null |"""
    r""" sed -n '/"names": \[/,/\]/s/^ *"\([^" ]*:[^" ]*\)",\{0,1\}$/\1/p'""",
    "container": r"""unionfs "$@" ls --json 2>/dev/null |"""
    r""" sed -n 's/^ *"name": "\([^"]*\)",\{0,1\}$/\1/p'""",
    "layer": """unionfs "$@" layer ls -q 2>/dev/null""",
}


def bash(program: Command) -> str:
    """Return bash's completion, which bash-completion loads, or ``source``."""
    tables: dict[str, dict[str, str]] = {"commands": {}, "flags": {}, "operands": {}, "values": {}}
    for path, command in _paths(program):
        tables["commands"][path] = " ".join(_names_below(command))
        tables["flags"][path] = " ".join(flag for o in command.options for flag in o.flags)
        tables["operands"][path] = _bash_operands(command)
        for option in command.options:
            if option.value is not None:
                wanted = _bash_kinds(option.value)
                tables["values"] |= {f"{path} {flag}": wanted for flag in option.flags}
    text = "".join(
        f"declare -gA _unionfs_{name}=(\n{_bash_rows(table)})\n" for name, table in tables.items()
    )
    cases = "\n".join(f"    {kind}) {line} ;;" for kind, line in _LISTINGS.items())
    return _filled("bash", text, cases)


def zsh(program: Command) -> str:
    """Return zsh's completion, the function ``_unionfs`` for a directory of ``fpath``."""
    functions = "\n".join(_zsh_function(command) for command in program.walk())
    cases = "\n".join(f"    {kind}) {line} ;;" for kind, line in _LISTINGS.items())
    return f"#compdef unionfs\n{_filled('zsh', functions, cases)}"


def fish(program: Command) -> str:
    """Return fish's completion, for a directory ``vendor_completions.d``."""
    paths = " ".join(_fish_quote(path) for path, _ in _paths(program))
    lines = [f"set -g __unionfs_valued {' '.join(sorted(valued(program)))}"]
    lines += [f"set -g __unionfs_paths {paths}"]
    for path, command in _paths(program):
        lines += _fish_command(path, command)
    cases = "".join(
        f"        case {kind}\n            {line}\n" for kind, line in _LISTINGS.items()
    ).replace('"$@"', "$root")
    return _filled("fish", "\n".join(lines), cases.rstrip("\n"))


def valued(program: Command) -> set[str]:
    """Return every option that takes the word after it.

    Raises ValueError for one that does so in some commands only: fish's program takes them alike.
    """
    takes: dict[str, bool] = {}
    for command in program.walk():
        for option in command.options:
            for flag in option.flags:
                if takes.setdefault(flag, option.value is not None) != (option.value is not None):
                    raise ValueError(f"{flag} takes a value in some commands only")
    return {flag for flag, does in takes.items() if does}


def _filled(shell: str, tables: str, names: str) -> str:
    text = (_SHELLS / shell).read_text(encoding="utf-8")
    return _HEAD.format(shell) + text.replace("@TABLES@", tables).replace("@NAMES@", names)


def _paths(program: Command) -> Iterator[tuple[str, Command]]:
    """Yield every command with the words that lead to it, by each of its names."""
    for command in program.walk():
        for name in (command.words[-1], *command.aliases):
            yield " ".join([*command.words[:-1], name]), command


def _names_below(command: Command) -> list[str]:
    return [name for below in command.commands for name in (below.words[-1], *below.aliases)]


def _bash_rows(table: dict[str, str]) -> str:
    return "".join(f"    [{shlex.quote(key)}]={shlex.quote(row)}\n" for key, row in table.items())


def _bash_kinds(value: Value) -> str:
    """Spell what *value* may be: kinds, or ``=`` and the words themselves."""
    return " ".join(value.kinds) or " ".join(f"={choice}" for choice in value.choices)


def _bash_operands(command: Command) -> str:
    row = [_bash_kinds(operand.value) for operand in command.operands]
    if row and command.operands[-1].many:
        row.append("...")
    return "|".join(row)


def _zsh_function(command: Command) -> str:
    name = "__" + "_".join(command.words)
    specs = [spec for option in command.options for spec in _zsh_options(option)]
    if command.commands:
        specs += ["1: :->command", "*:: :->words"]
    for operand in command.operands:
        place = "*:" if operand.many else "::" if operand.optional else ":"
        specs.append(f"{place}{_zsh_text(operand.value.name)}:{_zsh_action(operand.value)}")
    given = "".join(f" \\\n        {shlex.quote(spec)}" for spec in specs)
    if not command.commands:
        return f"{name}() {{\n    _arguments -s{given}\n}}\n"
    return (
        f"{name}() {{\n    local curcontext=$curcontext state line\n    local -a commands\n"
        f"    _arguments -s -C{given} && return\n{_zsh_branches(command)}}}\n"
    )


def _zsh_branches(command: Command) -> str:
    """Return the cases of a branch: which commands there are, or the one that was chosen."""
    rows = cases = ""
    for below in command.commands:
        names = (below.words[-1], *below.aliases)
        rows += "".join(f" {shlex.quote(f'{name}:{below.summary}')}" for name in names)
        cases += f" {'|'.join(names)}) __{'_'.join(below.words)} ;;"
    return (
        f"    case $state in\n"
        f"    command)\n        commands=({rows} )\n        _describe command commands\n"
        f"        ;;\n"
        f"    words)\n        case $line[1] in{cases} esac\n        ;;\n    esac\n"
    )


def _zsh_options(option: Option) -> Iterator[str]:
    text = _zsh_text(option.help)
    for flag in option.flags:
        if option.value is None:
            yield f"({' '.join(option.flags)}){flag}[{text}]"
        else:
            takes = "=" if flag.startswith("--") else "+"
            what = f"{_zsh_text(option.value.name)}:{_zsh_action(option.value)}"
            yield f"*{flag}{takes}[{text}]:{what}"


def _zsh_action(value: Value) -> str:
    if value.choices:
        return f"({' '.join(value.choices)})"
    return f"__unionfs_names {' '.join(value.kinds)}" if value.kinds else " "


def _zsh_text(text: str) -> str:
    for special in "\\[]:":
        text = text.replace(special, "\\" + special)
    return text


def _fish_command(path: str, command: Command) -> Iterator[str]:
    at = f"complete -c unionfs -n {_fish_quote(f'__unionfs_at {path}')}"
    files = any("file" in operand.value.kinds for operand in command.operands)
    yield f"{at} {'-F' if files else '-f'}"
    for below in command.commands:
        for name in (below.words[-1], *below.aliases):
            yield f"{at} -a {name} -d {_fish_quote(below.summary)}"
    for option in command.options:
        flags = "".join(
            f" -l {flag[2:]}" if flag.startswith("--") else f" -s {flag[1:]}"
            for flag in option.flags
        )
        takes = "" if option.value is None else _fish_value(option.value)
        yield f"{at}{flags}{takes} -d {_fish_quote(option.help)}"
    for words in sorted({_fish_words(operand.value) for operand in command.operands} - {""}):
        yield f"{at}{words}"


def _fish_value(value: Value) -> str:
    return (" -r -F" if "file" in value.kinds else " -x") + _fish_words(value)


def _fish_words(value: Value) -> str:
    words = " ".join(value.choices)
    for kind in value.kinds:
        if kind == "directory":
            words += " (__fish_complete_directories)"
        elif kind != "file":
            words += f" (__unionfs_names {kind})"
    return f" -a {_fish_quote(words.strip())}" if words else ""


def _fish_quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
