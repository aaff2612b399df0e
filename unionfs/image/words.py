"""Words of a Dockerfile's line: quotes, backslashes, variables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from unionfs.errors import UsageError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BRACED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::([-+])(.*))?", re.DOTALL)


class BadWordError(UsageError):
    """A word cannot be understood."""


def split(text: str) -> list[str]:
    """Return the words of *text*, their quotes and backslashes still in them.

    Raises BadWordError for a quote without its end.
    """
    words: list[str] = []
    word = quote = ""
    characters = iter(text)
    for character in characters:
        if not quote and character.isspace():
            if word:
                words.append(word)
            word = ""
            continue
        word += character
        if character == "\\" and quote != "'":
            word += next(characters, "")
        elif character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
    if quote:
        raise BadWordError(f"a {quote} without its end")
    return [*words, word] if word else words


def pairs(text: str, environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the names and values of ``A=1 B="2 3"``, or the one pair of the old ``A 1 2``.

    Raises BadWordError.
    """
    words = split(text)
    if "=" not in words[0]:
        name, _, value = text.partition(" ")
        if not value.strip():
            raise BadWordError(f"{name!r} without a value")
        return [(expanded(name, environment), expanded(value.strip(), environment))]
    found = []
    for word in words:
        name, equals, value = word.partition("=")
        name = expanded(name, environment)
        if not equals or not name:
            raise BadWordError(f"{word!r} is not NAME=VALUE")
        found.append((name, expanded(value, environment)))
    return found


def expanded(word: str, environment: Mapping[str, str]) -> str:
    """Return *word* without its quotes and backslashes, its variables replaced.

    ``$NAME``, ``${NAME}``, ``${NAME:-otherwise}`` and ``${NAME:+instead}``; none in single quotes.
    Raises BadWordError for others.
    """
    return "".join(_pieces(word, environment))


def _pieces(word: str, environment: Mapping[str, str]) -> Iterator[str]:
    quote = ""
    at = 0
    while at < len(word):
        character = word[at]
        at += 1
        if character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        elif character == "\\" and quote != "'":
            following = word[at : at + 1]
            at += 1
            # Between double quotes a backslash is itself, unless it protects something.
            yield following if not quote or following in '"$\\' else "\\" + following
        elif character == "$" and quote != "'":
            value, at = _variable(word, at, environment)
            yield value
        else:
            yield character


def _variable(word: str, at: int, environment: Mapping[str, str]) -> tuple[str, int]:
    """Return the value of the variable whose ``$`` is before *at*, and where it ends."""
    if word[at : at + 1] != "{":
        found = _NAME.match(word, at)
        if found is None:
            return "$", at
        return environment.get(found[0], ""), found.end()
    end = _closing(word, at)
    found = _BRACED.fullmatch(word, at + 1, end)
    if found is None:
        raise BadWordError(f"a variable that cannot be understood: ${word[at : end + 1]}")
    value = environment.get(found[1], "")
    if (found[2] == "-" and not value) or (found[2] == "+" and value):
        value = expanded(found[3], environment)
    return value, end + 1


def _closing(word: str, at: int) -> int:
    """Return where the brace at *at* is closed."""
    depth = 0
    for place in range(at, len(word)):
        depth += {"{": 1, "}": -1}.get(word[place], 0)
        if not depth:
            return place
    raise BadWordError("a ${ without its end")
