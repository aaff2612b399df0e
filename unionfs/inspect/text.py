"""Names, sizes and times as they can stand in a line of text."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def plain(name: bytes) -> str:
    """Return *name* for a line of text: control and undecodable bytes as ``\\ooo``, as ``ls -b``.

    A name that an image chose must not be able to speak to the terminal.
    """
    text = name.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:  # nearly all
        return text
    return "".join(_octal(c) if c == "\\" else _printable(c) for c in text)


def shown(text: str) -> str:
    """Return *text*, which an image or a path may say, as it can stand on a terminal."""
    return text if text.isprintable() else "".join(map(_printable, text))


def _printable(character: str) -> str:
    return character if character.isprintable() else _octal(character)


def _octal(character: str) -> str:
    raw = character.encode("utf-8", "surrogateescape")
    return "".join(f"\\{byte:03o}" for byte in raw)


def size(count: int) -> str:
    """Return *count* bytes in decimal units with three digits, as docker prints sizes."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g}{_UNITS[unit]}" if value < 1000 else f"{value:.0f}{_UNITS[unit]}"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return *count* and *noun* as English has them; *plural* where an s does not make it."""
    return f"{count} {noun}" if count == 1 else f"{count} {plural or noun + 's'}"


def took(ns: float) -> str:
    """Return a time of *ns* nanoseconds in the unit that shows it best."""
    if ns < 1e6:
        return f"{ns / 1e3:.0f} us" if ns >= 1e4 else f"{ns / 1e3:.1f} us"
    return f"{ns / 1e6:.1f} ms" if ns < 1e9 else f"{ns / 1e9:.1f} s"


def clock(ns: int) -> str:
    """Return a time in nanoseconds since 1970 as date and time in UTC, to the second."""
    try:
        return datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError):
        return f"{ns // 10**9} seconds since 1970"
