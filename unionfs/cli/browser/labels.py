"""How layers, names and files that are wasted look in a line."""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING

from rich.text import Text

from unionfs.cli import output
from unionfs.inspect.browse import Entry, State
from unionfs.inspect.words import command

if TYPE_CHECKING:
    from unionfs.inspect.stack import LayerName
    from unionfs.inspect.totals import LayerTotals, Waste

# Colour is never alone: a letter says the same.
_STYLES = {
    State.SAME: ("", "", " "),
    State.ADDED: ("green", "", "A"),
    State.CHANGED: ("yellow", "", "C"),
    State.DELETED: ("red", "strike", "D"),
}
_KINDS = {stat.S_IFDIR: "/", stat.S_IFLNK: "@", stat.S_IFIFO: "|", stat.S_IFSOCK: "="}
_SIZE = 7
_COMMAND = 76  # letters: two lines of the pane where there is room, three in a narrow one
_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b")  # of what was copied: a tenth tells enough


def of_layer(name: LayerName, size: int | None, totals: LayerTotals | None) -> Text:
    """Return the lines of a layer: what it is, how large, what it did, by which command."""
    text = Text.assemble((name.label, "bold"))
    if size is not None:
        text.append(f"  {output.size(size)}", "cyan")
    if totals is not None:
        for state, tally in (
            (State.ADDED, totals.added),
            (State.CHANGED, totals.changed),
            (State.DELETED, totals.deleted),
        ):
            colour, _, letter = _STYLES[state]
            if tally.paths:
                text.append(f" {letter}{tally.paths}", colour)
    if name.command is not None:
        short = _DIGEST.sub(r"\1…", name.command)
        text.append(f"\n{command(short, _COMMAND)}", "dim")
    return text


def of_entry(entry: Entry, size: int | None) -> Text:
    """Return the line of a name; *size* is None where it is not known or says nothing."""
    colour, how, letter = _STYLES[entry.state]
    if entry.touched and entry.state is State.SAME:
        letter = "·"
    text = Text.assemble((f"{letter} ", colour), (output.plain(entry.name), f"{colour} {how}"))
    text.append(_KINDS.get(entry.kind, ""), "dim")
    if size is not None:
        text.append(f"  {output.size(size)}", "dim")
    return text


def of_waste(one: Waste) -> Text:
    """Return the lines of a file that is shipped and never shows: how much and why, and which."""
    return Text.assemble(
        (f"{output.size(one.bytes):>{_SIZE}} ", "cyan"),
        (f" of {one.layer.label}, {one.act.value} by {one.hider.label}\n", "dim"),
        output.plain(one.path),
    )
