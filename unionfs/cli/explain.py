"""``unionfs explain``: why a path is what it is, or why it is not there."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unionfs.cli import output
from unionfs.cli.context import Context
from unionfs.cli.tree import Branch
from unionfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from unionfs.inspect.copies import Blame, Copy
    from unionfs.inspect.explain import Explanation, Step, Verdict
    from unionfs.inspect.stack import LayerName, Source

_SHOWN, _GONE, _QUIET, _NAME = "bold green", "red", "dim", "bold"


def register(commands: Branch) -> None:
    """Add the command of this module."""
    parser = commands.command("explain", _explain, "say which layer a path comes from, and why")
    parser.add_argument("subject", metavar="CONTAINER|IMAGE|TARGET")
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        help="a path in it, from its root; below TARGET it may begin with the mount point",
    )


def _explain(context: Context) -> int:
    from unionfs.container.subject import find_source
    from unionfs.inspect.explain import explain

    subject = context.args.subject
    if context.has_store():
        with context.store() as store:
            source = find_source(store, subject)
    else:
        source = find_source(None, subject)
    paths = [_inside(os.fsencode(path), source) for path in context.args.paths]
    found = [explain(source, path) for path in paths]
    if context.json:
        output.print_json([document(one) for one in found])
        return 0
    from rich.console import Console

    console = Console(highlight=False, emoji=False, markup=False)
    with console.capture() as captured:
        for place, one in enumerate(found):
            if place:
                console.print()
            console.print(*drawn(one), sep="\n")
    print(*(line.rstrip() for line in captured.get().splitlines()), sep="\n")  # padded columns
    return 0


def _inside(path: bytes, source: Source) -> bytes:
    """Return *path* from the root of *source*, if it begins with its mount point.

    Raises UsageError for an empty one, which is the name of nothing (path_resolution(7)).
    """
    if not path:
        raise UsageError("a PATH is empty")
    target = source.target
    if target is not None and (path + b"/").startswith(target + b"/"):
        return path[len(target) :] or b"/"
    return path


def document(found: Explanation) -> dict[str, Any]:
    """Return an explanation for ``--json``; sizes in bytes, times in nanoseconds since 1970."""
    from unionfs.inspect import words

    return {
        "subject": found.subject,
        "asked": output.text_of(found.asked),
        "path": output.text_of(found.path),
        "outcome": found.outcome.value,
        "answer": words.answer(found),
        "missing": _text(found.missing),
        "blame": _blame(found.blame),
        "shown": _copy(found.shown),
        "copies": [_copy(one) for one in found.copies],
        "write": {
            "what": found.write.what.value,
            "bytes": found.write.bytes,
            "directories": found.write.directories,
        },
        "similar": [output.text_of(name) for name in found.similar],
        "components": [_component(step) for step in found.steps],
    }


def _component(step: Step) -> dict[str, Any]:
    return {
        "path": output.text_of(step.path),
        "followed_link": _text(step.link),
        "shown": _copy(step.shown),
        "layers": [_verdict(one) for one in step.verdicts],
    }


def _verdict(one: Verdict) -> dict[str, Any]:
    from unionfs.inspect import words

    return {
        **_layer(one.layer),
        "says": one.says.value,
        "type": words.kind_word(one.kind) if one.kind else None,
        "size": one.size,
        "counts": one.counts,
        "opaque": one.opaque,
        "redirect": _text(one.redirect),
        "elsewhere": _text(one.elsewhere),
        "hidden": _blame(one.hidden),
    }


def _layer(name: LayerName) -> dict[str, Any]:
    return {"layer": name.label, "number": name.number, "diff_id": name.digest}


def _blame(blame: Blame | None) -> dict[str, Any] | None:
    if blame is None:
        return None
    named = _layer(blame.layer) | {"command": blame.layer.command}
    return {**named, "how": blame.how.value, "path": output.text_of(blame.path)}


def _copy(copy: Copy | None) -> dict[str, Any] | None:
    from unionfs.inspect import words

    if copy is None:
        return None
    return {
        **_layer(copy.layer),
        "command": copy.layer.command,
        "on_disk": output.text_of(copy.path),
        "type": words.kind_word(copy.kind),
        "mode": f"{copy.mode:04o}",
        "uid": copy.uid,
        "gid": copy.gid,
        "size": copy.size,
        "mtime_ns": copy.mtime_ns,
        "target": _text(copy.target),
        "counts": copy.counts,
        "hidden": _blame(copy.hidden),
        "same_content": copy.same,
    }


def _text(path: bytes | None) -> str | None:
    return None if path is None else output.text_of(path)


def drawn(found: Explanation) -> list[RenderableType]:
    """Return an explanation as what rich prints, from top to bottom."""
    from rich.text import Text

    parts: list[RenderableType] = [
        Text.assemble((output.plain(found.path), _NAME), f" in {found.subject}")
    ]
    for step in found.steps:
        parts += ["", *_drawn_step(step)]
    return [*parts, "", conclusion(found)]


def conclusion(found: Explanation) -> RenderableType:
    """Return what follows from what the layers say, as what rich prints."""
    from unionfs.inspect import words

    style = _SHOWN if found.shown is not None else _GONE
    rows = [_Row("Answer", words.answer(found), style), *_details(found)]
    rows.append(_Row("A write", words.write(found.write)))
    if found.similar:
        names = ", ".join(output.plain(name) for name in found.similar)
        rows.append(_Row("Similar", names, "yellow"))
    return _table(rows)


@dataclass(frozen=True, slots=True)
class _Row:
    label: str
    text: str
    style: str = ""
    note: str = ""


def _details(found: Explanation) -> Iterator[_Row]:
    """Yield where what shows comes from, and the other copies."""
    from unionfs.inspect import words

    copy = found.shown
    if copy is not None:
        yield _Row("Shows", words.copy(copy))
        yield from _origin(copy)
    label = "Others" if copy is not None else "Hidden"
    for other in (one for one in found.copies if not one.counts):
        same = f"; {words.sameness(other)}" if other.kind == stat.S_IFREG and copy else ""
        yield _Row(label, f"{other.layer.label}: {words.copy(other)}{same}")
        yield _Row("", output.plain(other.path), _QUIET)
        label = ""


def _origin(copy: Copy) -> Iterator[_Row]:
    from unionfs.inspect import words

    yield _Row("Layer", copy.layer.label)
    if copy.layer.digest is not None:
        yield _Row("DiffID", copy.layer.digest)
    if copy.layer.command is not None:
        yield _Row("Made by", words.command(copy.layer.command, 400))
    yield _Row("On disk", output.plain(copy.path))


def _drawn_step(step: Step) -> list[RenderableType]:
    from rich.text import Text

    title = Text(output.plain(step.path), "bold cyan")
    if step.link is not None:
        title.append(f" is a symbolic link to {output.plain(step.link)}: followed", "default")
    return [title, said(step, indent=2)]


def said(step: Step, indent: int = 0) -> RenderableType:
    """Return what the layers say about one component, as what rich prints."""
    return _table(list(_rows(step.verdicts)), indent)


def _rows(verdicts: Sequence[Verdict]) -> Iterator[_Row]:
    """Yield a line for each layer; neighbours without anything to say share one."""
    from unionfs.inspect import words

    merged = sum(one.counts for one in verdicts) > 1
    waiting: list[Verdict] = []
    for one in verdicts:
        text = words.verdict(one)
        silent = one.kind == 0 and one.elsewhere is None and not one.hidden
        if waiting and not (silent and words.verdict(waiting[0]) == text):
            yield _joined(waiting)
            waiting = []
        if silent:
            waiting.append(one)
            continue
        note = ("merged" if merged else "shows") if one.counts else ""
        blame = f"; {words.hidden(one.hidden)}" if one.hidden is not None else ""
        yield _Row(one.layer.label, text + blame, "" if one.counts else _QUIET, note)
    if waiting:
        yield _joined(waiting)


def _joined(verdicts: Sequence[Verdict]) -> _Row:
    from unionfs.inspect import words
    from unionfs.union.reasons import Says

    first, last = verdicts[0].layer, verdicts[-1].layer
    style = _GONE if verdicts[0].says is Says.WHITEOUT else _QUIET
    if first is last:
        label = first.label
    elif first.number is not None and last.number is not None:
        label = f"layers {first.number}-{last.number}"
    else:
        label = f"{first.label} to {last.label.removeprefix('layer ')}"
    return _Row(label, words.verdict(verdicts[0]), style)


def _table(rows: Sequence[_Row], indent: int = 0) -> RenderableType:
    """Return *rows* in columns that fold within the width of what they are printed on."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        cells = [Text(row.label), Text(row.text, row.style)]
        note = [Text(f"◂ {row.note}", _SHOWN)] if row.note else []
        table.add_row(*cells, *note)
    return Padding(table, (0, 0, 0, indent))
