"""How ``-o`` words are written: commas, colons, quotes and backslashes.

It is libfuse's ``fuse_opt_parse`` and what engines write beside it. Commas separate options; a
backslash or a pair of double quotes protects one, and quotes around a whole value fall away. In a
path a colon is written with one backslash (fuse-overlayfs 2, Buildah) or with two (fuse-overlayfs
1) before it; a comma, a double quote and a backslash with one; a backslash before three octal
digits is that byte; any other backslash is part of the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_QUOTED = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_PIECE = re.compile(rb'\\.|%b|,|[^\\",]+|.' % _QUOTED, re.DOTALL)
_WHOLLY_QUOTED = re.compile(_QUOTED, re.DOTALL)
_TOKEN = re.compile(rb'\\\\:|\\[0-3][0-7]{2}|\\[\\:,"]|:|[^\\:]+|\\', re.DOTALL)


def split_options(text: bytes) -> Iterator[bytes]:
    """Yield the options of *text*, a comma-separated list, escapes kept and empty ones left out."""
    option = b""
    for piece in _PIECE.findall(text):
        if piece != b",":
            option += piece
            continue
        if option:
            yield option
        option = b""
    if option:
        yield option


def unquoted(value: bytes) -> bytes:
    """Return *value* without the quotes around the whole of it, if there are any."""
    return value[1:-1] if _WHOLLY_QUOTED.fullmatch(value) else value


def split_paths(value: bytes) -> list[bytes]:
    """Return the elements of a colon-separated list, their escapes resolved."""
    elements = [b""]
    for token in _TOKEN.findall(unquoted(value)):
        if token == b":":
            elements.append(b"")
        else:
            elements[-1] += _plain(token)
    return elements


def _plain(token: bytes) -> bytes:
    if token.startswith(b"\\") and len(token) == 4:
        return bytes((int(token[1:], 8),))
    return token[-1:] if token.startswith(b"\\") else token
