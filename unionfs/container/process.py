"""What an image says its process is, and what the user says instead.

The fields are those of image-spec config.md (``config.Env``, ``Cmd``, ``Entrypoint``,
``WorkingDir``, ``User``); they come from an attacker, so every type is checked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unionfs.container.rootfile import stat_inside
from unionfs.errors import CorruptError, UnionfsError, UsageError

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ImageConfigError(CorruptError):
    """A field of the image's config that describes its process has the wrong type."""


class NoCommandError(UsageError):
    """Neither the command line nor the image says what to run."""


class CommandNotFoundError(UnionfsError):
    """There is no such program in the container; the status is the shell's for it."""

    exit_status = 127


class CommandNotExecutableError(UnionfsError):
    """The program is there and cannot be executed; the status is the shell's for it."""

    exit_status = 126


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says in place of the image's config; empty means: as the image."""

    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    cwd: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class Process:
    """A process to run in a container's root: ``env`` without the defaults, ``user`` a name."""

    args: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    user: str


def process_of(config: Mapping[str, Any], overrides: Overrides) -> Process:
    """Return the process that the image's *config* document and the *overrides* describe.

    Raises ImageConfigError for a field of a wrong type and UsageError for a bad override.
    """
    fields = config.get("config") or {}
    if not isinstance(fields, dict):
        raise ImageConfigError("the image's config: `config` is not an object")
    image_args = _strings(fields, "Entrypoint") + _strings(fields, "Cmd")
    env = _environment(_strings(fields, "Env"))
    env.update(_overriding(overrides.env))
    cwd = overrides.cwd or _string(fields, "WorkingDir") or "/"
    for word in (*overrides.args, *env.values(), cwd, overrides.user):
        _require_text(word)
    return Process(
        args=overrides.args or image_args,
        env=env,
        cwd=cwd if cwd.startswith("/") else "/" + cwd,
        user=overrides.user or _string(fields, "User"),
    )


def _require_text(word: str) -> None:
    """Raise UsageError for bytes that are no UTF-8: a runtime would get other bytes instead."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{word!r} is not UTF-8, which a runtime's config.json has to be"
        ) from None


def require_command(process: Process) -> None:
    """Raise NoCommandError if there is nothing to run."""
    if not process.args or not process.args[0]:
        raise NoCommandError("no command: the image has neither Entrypoint nor Cmd, so name one")


def check_command(root_fd: int, process: Process, env: Mapping[str, str]) -> None:
    """Raise unless the process's program is in the root and executable.

    Asked before a runtime is, so that a missing program is never mistaken for a broken runtime.
    Raises CommandNotFoundError, CommandNotExecutableError.
    """
    program = process.args[0]
    denied = False
    for candidate in _candidates(program, env.get("PATH", DEFAULT_PATH), process.cwd):
        status = stat_inside(root_fd, os.fsencode(candidate))
        if status is None or status.st_mode & 0o170000 == 0o040000:
            continue
        if status.st_mode & 0o111:
            return
        denied = True
    if denied:
        raise CommandNotExecutableError(f"{program}: permission denied in the container")
    raise CommandNotFoundError(f"{program}: no such program in the container")


def _candidates(program: str, search: str, cwd: str) -> list[str]:
    if program.startswith("/"):
        return [program]
    if "/" in program:
        return [f"{cwd}/{program}"]
    return [f"{place or cwd}/{program}" for place in search.split(":")]


def _environment(entries: Sequence[str]) -> dict[str, str]:
    """Return ``NAME=VALUE`` entries as a mapping; what has no name is dropped, as docker does."""
    pairs = (entry.partition("=") for entry in entries)
    return {name: value for name, _, value in pairs if name}


def _overriding(entries: Sequence[str]) -> dict[str, str]:
    """Return the ``-e`` entries as a mapping: ``NAME`` alone passes the caller's value on."""
    found = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not name or "\0" in entry:
            raise UsageError(f"-e {entry!r}: not NAME=VALUE")
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return found


def _strings(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = fields.get(name) or []
    if not isinstance(value, list) or not all(_is_text(item) for item in value):
        raise ImageConfigError(f"the image's config: {name} is not a list of strings")
    return tuple(value)


def _string(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name) or ""
    if not _is_text(value):
        raise ImageConfigError(f"the image's config: {name} is not a string")
    return str(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value
