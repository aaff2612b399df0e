"""Which command of an image made which layer, and how to say it (image-spec config.md, history)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_SHELL = "/bin/sh -c "
_NOP = "#(nop)"


def layer_commands(history: Sequence[Mapping[str, Any]], layers: int) -> list[str | None]:
    """Return the command of each of *layers* layers, bottommost first.

    All None where the history does not account for exactly that many layers: a guess would blame
    the wrong command.
    """
    made = [entry for entry in history if not entry.get("empty_layer")]
    if len(made) != layers:
        return [None] * layers
    return [command_of(entry) for entry in made]


def command_of(entry: Mapping[str, Any]) -> str | None:
    """Return the command of a history entry as its build file may have had it; None for none.

    Docker writes ``/bin/sh -c CMD`` for RUN and ``/bin/sh -c #(nop) CMD`` for everything else,
    BuildKit ``RUN /bin/sh -c CMD # buildkit``.
    """
    text = entry.get("created_by")
    if not isinstance(text, str) or not text.strip():
        comment = entry.get("comment")
        return comment.strip() or None if isinstance(comment, str) else None
    text = " ".join(text.split()).removesuffix(" # buildkit")
    if text.startswith("RUN "):
        return "RUN " + text[4:].removeprefix(_SHELL)
    if not text.startswith(_SHELL):
        return text
    rest = text[len(_SHELL) :]
    return rest[len(_NOP) :].strip() if rest.startswith(_NOP) else f"RUN {rest}"
