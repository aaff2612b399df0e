"""Versions of things: ``image history`` (of an image, or of one path in it), and ``cat``."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Any

from unionfs.cli import output
from unionfs.cli.anatomy import count
from unionfs.cli.context import Context
from unionfs.cli.tree import Branch
from unionfs.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unionfs.inspect.copies import Copy
    from unionfs.inspect.explain import Explanation
    from unionfs.inspect.stack import Source
    from unionfs.inspect.versions import Version
    from unionfs.store.records import ImageRecord
    from unionfs.store.store import Store

_CHUNK = 1 << 20
_LINKS = 40
_COMMAND = 44


class NoSuchFileError(NotFoundError):
    """There is no such file in an image, or it cannot be written out."""


def register(commands: Branch, images: Branch) -> None:
    """Add ``cat`` to *commands* and ``history`` to *images*."""
    history = images.command(
        "history", _history, "list the commands that made an image, or the versions of a path"
    )
    history.add_argument("image", metavar="IMAGE")
    history.add_argument("path", metavar="PATH", nargs="?")
    cat = commands.command("cat", _cat, "write a file of an image to standard output")
    cat.add_argument("--layer", metavar="N", type=count, help="as layer N has it (1: the lowest)")
    cat.add_argument("image", metavar="IMAGE")
    cat.add_argument("path", metavar="PATH")


def _history(context: Context) -> int:
    from unionfs.container.subject import of_image

    path = context.args.path
    with context.store() as store:
        image = store.images.resolve(context.args.image)
        if path is not None:
            source = of_image(store, image)
        else:
            entries = steps_of(store, image)
    if path is not None:
        return _path_history(context, source, os.fsencode(path))
    if context.json:
        output.print_json(entries)
    else:
        _print_entries(entries)
    return 0


def steps_of(store: Store, image: ImageRecord) -> list[dict[str, Any]]:
    """Return the steps that made *image*, oldest first, with the layer that each made, if any.

    In the place of a history that does not account for the layers come steps without commands.
    """
    from unionfs.inspect.history import command_of

    history: Sequence[Mapping[str, Any]] = image.history
    if sum(not entry.get("empty_layer") for entry in history) != len(image.diff_ids):
        history = [{} for _ in image.diff_ids]
    places = iter(range(1, len(image.diff_ids) + 1))
    entries = []
    for entry in history:
        place = None if entry.get("empty_layer") else next(places, None)
        diff_id = None if place is None else image.diff_ids[place - 1]
        size = 0 if diff_id is None else store.layers.get(diff_id).content_size
        entries.append(
            {
                "layer": place,
                "diff_id": None if diff_id is None else str(diff_id),
                "size": size,
                "created": entry.get("created"),
                "command": command_of(entry),
                "comment": entry.get("comment"),
            }
        )
    return entries


def _print_entries(entries: Sequence[Mapping[str, Any]]) -> None:
    from unionfs.inspect.words import command

    rows = [
        (
            "-" if entry["layer"] is None else str(entry["layer"]),
            output.age(entry["created"] if isinstance(entry["created"], str) else None),
            output.size(entry["size"]),
            command(entry["command"] or "(unknown command)", _COMMAND),
        )
        for entry in reversed(entries)
    ]
    output.print_table(("LAYER", "CREATED", "SIZE", "COMMAND"), rows)


def _cat(context: Context) -> int:
    from unionfs.container.subject import of_image

    args = context.args
    if context.json:
        raise UsageError("cat writes a file as it is: there is no --json")
    with context.store() as store:
        source = of_image(store, store.images.resolve(args.image))
    path = os.fsencode(args.path)
    _write_out(_copy_of_file(source, path, args.layer), path)
    return 0


def _copy_of_file(source: Source, path: bytes, number: int | None) -> Copy:
    """Return the file at *path*, as layer *number* has it or (None) as it shows.

    Links are followed: in a layer's own copy those on the way only. Raises NoSuchFileError.
    """
    from unionfs.inspect import words
    from unionfs.inspect.explain import Outcome, explain

    found = explain(source, path)
    if number is not None:
        return _in_layer(found, number)
    for _ in range(_LINKS):
        shown = found.shown
        if shown is None:
            raise NoSuchFileError(f"{output.plain(path)}: {words.answer(found)}")
        if shown.target is None:
            return shown
        parent = found.path.rpartition(b"/")[0]
        path = os.path.join(parent, shown.target)
        found = explain(source, path)
    raise NoSuchFileError(f"{output.plain(path)}: {Outcome.LINK_LOOP.value}")


def _in_layer(found: Explanation, number: int) -> Copy:
    for copy in found.copies:
        if copy.layer.number == number:
            return copy
    having = [str(copy.layer.number) for copy in found.copies if copy.layer.number]
    where = f"layers that have it: {', '.join(reversed(having))}" if having else "no layer has it"
    raise NoSuchFileError(f"layer {number} has no {output.plain(found.path)}; {where}")


def _write_out(copy: Copy, asked: bytes) -> None:
    from unionfs.inspect.words import kind_word

    if copy.kind != stat.S_IFREG:
        raise NoSuchFileError(f"{output.plain(asked)} is a {kind_word(copy.kind)}, not a file")
    fd = os.open(copy.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb", buffering=0) as file:
        while piece := file.read(_CHUNK):
            sys.stdout.buffer.write(piece)


def _path_history(context: Context, source: Source, path: bytes) -> int:
    """Print every version of *path* that the layers of *source* have."""
    from unionfs.inspect import words
    from unionfs.inspect.explain import explain
    from unionfs.inspect.versions import versions

    found = explain(source, path)
    life = versions(found)
    if not life:
        raise NoSuchFileError(words.answer(found))
    if context.json:
        output.print_json([_version(one) for one in life])
        return 0
    rows = []
    for one in reversed(life):
        copy = one.copy
        what = words.copy(copy) if copy is not None else ""
        rows.append((one.layer.label, one.act.value, what))
        rows.append(("", "", words.command(one.layer.command or "(unknown command)")))
    output.print_table(("LAYER", "HOW", "WHAT, AND BY WHICH COMMAND"), rows)
    return 0


def _version(one: Version) -> dict[str, Any]:
    copy = one.copy
    document = {
        "number": one.layer.number,
        "diff_id": one.layer.digest,
        "command": one.layer.command,
        "how": one.act.value,
    }
    if copy is None:
        return document
    return document | {
        "size": copy.size,
        "mode": f"{copy.mode:04o}",
        "uid": copy.uid,
        "gid": copy.gid,
        "mtime_ns": copy.mtime_ns,
        "on_disk": output.text_of(copy.path),
        "same_content_as_shown": True if copy.counts else copy.same,
    }
