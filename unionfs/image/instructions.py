"""The instructions that ``docker commit --change`` takes, applied to an image's config.

Each is a line of a Dockerfile (docs.docker.com/reference/dockerfile) and means what it means there:
exec forms are JSON, variables of the environment are replaced in words, ENTRYPOINT takes away a
CMD that the image had before. What Docker takes and is not here is refused by name.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unionfs.errors import UsageError
from unionfs.image.words import BadWordError, expanded, pairs, split

_SHELL = ["/bin/sh", "-c"]
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/([A-Za-z]+))?")
_PROTOCOLS = ("tcp", "udp", "sctp")

Config = dict[str, Any]


class BadChangeError(UsageError):
    """A ``--change`` is no instruction that can be applied."""


def changed_config(run_config: Mapping[str, Any], changes: Sequence[str]) -> Config:
    """Return *run_config* (the ``config`` part of an image's config) after *changes*, in order.

    Raises BadChangeError, naming the change.
    """
    config: Config = dict(run_config)
    seen: set[str] = set()
    for change in changes:
        keyword, _, rest = change.strip().partition(" ")
        apply = _INSTRUCTIONS.get(keyword.upper())
        if apply is None:
            known = ", ".join(sorted(_INSTRUCTIONS))
            raise BadChangeError(f"--change {change!r}: not one of {known}, and what it says")
        if not rest.strip():
            raise BadChangeError(f"--change {change!r}: {keyword.upper()} of nothing")
        try:
            apply(config, rest.strip())
        except BadWordError as error:
            raise BadChangeError(f"--change {change!r}: {error}") from None
        if keyword.upper() == "ENTRYPOINT" and "CMD" not in seen:
            config.pop("Cmd", None)  # it was meant for another entry point
        seen.add(keyword.upper())
    return config


def _command(config: Config, key: str, text: str) -> None:
    """Set *key* from an exec form, or from a line for the shell."""
    found = _json_words(text)
    if found is None:
        found = [*(config.get("Shell") or _SHELL), text]
    config[key] = found


def _json_words(text: str) -> list[str] | None:
    """Return the strings of a JSON array, None for what is none, as Docker's parser does."""
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        return None
    return found


def _environment(config: Config) -> dict[str, str]:
    words = (entry.partition("=") for entry in config.get("Env") or ())
    return {name: value for name, _, value in words}


def _env(config: Config, text: str) -> None:
    known = _environment(config)
    found = list(config.get("Env") or ())
    for name, value in pairs(text, known):
        entry = f"{name}={value}"
        places = [i for i, one in enumerate(found) if one.partition("=")[0] == name]
        if places:
            found[places[0]] = entry
        else:
            found.append(entry)
    config["Env"] = found


def _label(config: Config, text: str) -> None:
    config["Labels"] = {
        **(config.get("Labels") or {}),
        **dict(pairs(text, _environment(config))),
    }


def _user(config: Config, text: str) -> None:
    config["User"] = _one_word(config, text)


def _working_dir(config: Config, text: str) -> None:
    path = posixpath.join("/", config.get("WorkingDir") or "/", _one_word(config, text))
    config["WorkingDir"] = posixpath.normpath(path)


def _one_word(config: Config, text: str) -> str:
    words = [expanded(word, _environment(config)) for word in split(text)]
    if len(words) != 1 or not words[0]:
        raise BadWordError("one word is wanted")
    return words[0]


def _expose(config: Config, text: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    for word in split(text):
        ports |= {port: {} for port in _ports(expanded(word, _environment(config)))}
    config["ExposedPorts"] = ports


def _ports(word: str) -> list[str]:
    found = _PORT.fullmatch(word)
    first = int(found[1]) if found else 0
    last = int(found[2]) if found and found[2] else first
    protocol = (found[3] or "tcp").lower() if found else ""
    if not 0 < first <= last < 1 << 16 or protocol not in _PROTOCOLS:
        raise BadWordError(f"no port: {word!r}")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _volume(config: Config, text: str) -> None:
    words = _json_words(text)
    found = split(text) if words is None else words
    volumes = [expanded(word, _environment(config)) for word in found]
    if not volumes or not all(volumes):
        raise BadWordError("a volume without a path")
    config["Volumes"] = {**(config.get("Volumes") or {}), **{one: {} for one in volumes}}


_INSTRUCTIONS: Mapping[str, Callable[[Config, str], None]] = {
    "CMD": lambda config, text: _command(config, "Cmd", text),
    "ENTRYPOINT": lambda config, text: _command(config, "Entrypoint", text),
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _working_dir,
}
