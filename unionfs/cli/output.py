"""Tables, documents and the spelling of sizes and times, for people and for ``--json``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from unionfs.inspect.text import clock as clock
from unionfs.inspect.text import counted as counted
from unionfs.inspect.text import plain as plain
from unionfs.inspect.text import shown as shown
from unionfs.inspect.text import size as size
from unionfs.inspect.text import took as took

_NOTHING = "-"
_CONFIG = ("User", "WorkingDir", "Entrypoint", "Cmd", "Env")
# Seconds from which on a unit is used, its length, its name (as docker's units.HumanDuration).
_AGES = (
    (2 * 365 * 86400, 365 * 86400, "years"),
    (2 * 30 * 86400, 30 * 86400, "months"),
    (2 * 7 * 86400, 7 * 86400, "weeks"),
    (2 * 86400, 86400, "days"),
    (2 * 3600, 3600, "hours"),
    (2 * 60, 60, "minutes"),
    (2, 1, "seconds"),
)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print *rows* below *headers* in columns as wide as their content; headers alone for none."""
    lines = [headers, *([shown(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("   ".join(cells).rstrip())


def print_fields(fields: Mapping[str, str | Sequence[str]]) -> None:
    """Print *fields* one a line, aligned; a list goes on below itself."""
    width = max(len(name) for name in fields) + 1
    for name, value in fields.items():
        values = [value] if isinstance(value, str) else list(value) or [_NOTHING]
        for place, text in enumerate(values):
            label = f"{name}:" if place == 0 else ""
            print(f"{label:<{width}}  {shown(text) or _NOTHING}")


def print_json(document: Any) -> None:
    """Print *document* as the one JSON document on standard output."""
    # ASCII only: bytes that are no UTF-8 stay readable as the escapes that Python decodes them to.
    print(json.dumps(document, indent=2))


def print_path(path: bytes) -> None:
    """Print *path* byte for byte: scripts use it."""
    sys.stdout.flush()
    sys.stdout.buffer.write(path + b"\n")
    sys.stdout.buffer.flush()


def age(created: str | None, now: datetime | None = None) -> str:
    """Return how long ago *created* (RFC 3339) was, in words; ``-`` where that makes no sense."""
    when = _parsed(created)
    if when is None:
        return _NOTHING
    seconds = ((now or datetime.now(UTC)) - when).total_seconds()
    if seconds < 0:
        return created or _NOTHING
    for least, length, name in _AGES:
        if seconds >= least:
            return f"{int(seconds // length)} {name} ago"
    return "just now"


def _parsed(created: str | None) -> datetime | None:
    try:
        when = datetime.fromisoformat(created or "")
    except ValueError:
        return None
    return when if when.tzinfo is not None else None


def image_label(names: Sequence[str], short: str) -> str:
    """Return what to call an image in a line: its first name, else its short ID."""
    return names[0] if names else short


def config_fields(config: Mapping[str, Any]) -> dict[str, str | Sequence[str]]:
    """Return the part of an image's config that says how to run, for ``print_fields``.

    Values are shown as JSON: an image may hold anything in them.
    """
    return {
        name: [json.dumps(item) for item in value] if isinstance(value, list) else json.dumps(value)
        for name, value in ((name, config.get(name)) for name in _CONFIG)
        if value
    }


def text_of(path: bytes | str) -> str:
    """Return *path* as text that can go into a JSON document."""
    return os.fsdecode(path)
