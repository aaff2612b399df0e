"""What an image is made of: image tree, waste, diff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unionfs.cli import output
from unionfs.cli.context import Context
from unionfs.cli.tree import Branch
from unionfs.errors import UnionfsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unionfs.inspect.totals import LayerTotals, Tally, Totals
    from unionfs.store.records import ImageRecord
    from unionfs.store.store import Store

_SHOWN = 30  # wasted files in a table; --json has all
_COMMAND = 44


class TooMuchWasteError(UnionfsError):
    """An image wastes more than it was allowed to."""


def register(images: Branch) -> None:
    """Add the commands of this module to those of ``image``."""
    tree = images.command("tree", _tree, "show the layers of an image and what each does")
    tree.add_argument("image", metavar="IMAGE")
    waste = images.command("waste", _waste, "list what an image ships and then hides")
    waste.add_argument("image", metavar="IMAGE")
    waste.add_argument(
        "--max-wasted-bytes", metavar="N", type=count, help="fail if more bytes are wasted"
    )
    waste.add_argument(
        "--max-wasted-percent", metavar="P", type=_percent, help="fail if a larger share is wasted"
    )
    diff = images.command(
        "diff", _diff, "list what B has added (A), changed (C) and lost (D) against A"
    )
    diff.add_argument("first", metavar="A")
    diff.add_argument("second", metavar="B")


def count(text: str) -> int:
    """Return the number that a word of the command line is. Raises UsageError."""
    if not (text.isascii() and text.isdecimal()):
        raise UsageError(f"{text!r} is not a number")
    return int(text)


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 100:
        raise UsageError(f"{text!r} is not a share from 0 to 100")
    return value


def _totals(store: Store, image: ImageRecord) -> Totals:
    from unionfs.container.layers import whole_image
    from unionfs.inspect.anatomy import events
    from unionfs.inspect.stack import Stack
    from unionfs.inspect.totals import add_up

    source, opaque = whole_image(store, image)
    with Stack(source) as stack:
        return add_up(source.layers, events(stack, opaque))


def _tree(context: Context) -> int:
    with context.store() as store:
        image = store.images.resolve(context.args.image)
        rows = layer_rows(store, image, _totals(store, image))
    if context.json:
        output.print_json({"image": str(image.id), "names": list(image.names), "layers": rows})
    else:
        _print_tree(image, rows)
    return 0


def layer_rows(store: Store, image: ImageRecord, totals: Totals) -> list[dict[str, Any]]:
    """Return what ``image tree`` says of each layer of *image*, bottommost first, for JSON."""
    from unionfs.inspect.history import layer_commands

    found = {one.layer.digest: one for one in totals.layers}
    sharers = _sharers(store, image)
    commands = layer_commands(image.history, len(image.diff_ids))
    rows = []
    for place, diff_id in enumerate(image.diff_ids, start=1):
        one = found[str(diff_id)]
        again = one.layer.number if one.layer.number != place else None
        row = _layer_row(place, str(diff_id), commands[place - 1], one, again)
        rows.append(row | {"shared_with": sharers.get(str(diff_id), [])})
    return rows


def _sharers(store: Store, image: ImageRecord) -> Mapping[str, Sequence[str]]:
    """Return the other images that have each layer of *image*."""
    labels = {one.id: output.image_label(one.names, one.id.short) for one in store.images.list()}
    return {
        str(diff_id): sorted(
            labels.get(other, other.short)
            for other in store.layers.get(diff_id).images
            if other != image.id
        )
        for diff_id in image.diff_ids
    }


def _layer_row(
    place: int, diff_id: str, command: str | None, totals: LayerTotals, again: int | None
) -> dict[str, Any]:
    return {
        "number": place,
        "diff_id": diff_id,
        "command": command,
        "same_as": again,  # the topmost place of a layer that the image has twice
        "size": 0 if again else totals.size,
        "added": _tally(totals.added),
        "changed": _tally(totals.changed),
        "deleted": _tally(totals.deleted),
    }


def _tally(tally: Tally) -> dict[str, int]:
    return {"paths": tally.paths, "bytes": tally.bytes}


def _print_tree(image: ImageRecord, rows: Sequence[Mapping[str, Any]]) -> None:
    from unionfs.inspect.words import command

    label = output.image_label(image.names, image.id.short)
    layers = output.counted(len(rows), "layer")
    print(f"{label}  {image.id.short}  {layers}, {output.size(sum(row['size'] for row in rows))}")
    print()
    for row in reversed(rows):
        shared = ", ".join(row["shared_with"])
        print(f"layer {row['number']}  {command(row['command'] or '(unknown command)', 68)}")
        if row["same_as"]:
            print(f"  the same as layer {row['same_as']}")
        else:
            print(f"  {output.size(row['size'])}{_done(row)}")
        print(f"  {row['diff_id']}")
        if shared:
            print(f"  shared with {shared}")


def _done(row: Mapping[str, Any]) -> str:
    words = [f"{row[act]['paths']} {act}" for act in ("added", "changed") if row[act]["paths"]]
    if row["deleted"]["paths"]:
        lost = output.size(row["deleted"]["bytes"])
        words.append(f"{row['deleted']['paths']} deleted ({lost} still shipped)")
    return f": {', '.join(words)}" if words else ""


def _waste(context: Context) -> int:
    with context.store() as store:
        image = store.images.resolve(context.args.image)
        totals = _totals(store, image)
    if context.json:
        output.print_json(_waste_document(image, totals))
    else:
        _print_waste(totals)
    _judge(context, image, totals)
    return 0


def _waste_document(image: ImageRecord, totals: Totals) -> dict[str, Any]:
    from unionfs.inspect.totals import by_hider

    return {
        "image": str(image.id),
        "size": totals.size,
        "wasted": totals.wasted,
        "percent": round(totals.wasted_percent, 3),
        "by_layer": [
            {"number": layer.number, "command": layer.command, "hides": lost}
            for layer, lost in by_hider(totals).items()
        ],
        "files": [
            {
                "path": output.text_of(one.path),
                "bytes": one.bytes,
                "layer": one.layer.number,
                "hidden_by": one.hider.number,
                "how": one.act.value,
            }
            for one in totals.waste
        ],
    }


def _print_waste(totals: Totals) -> None:
    from unionfs.inspect.totals import by_hider
    from unionfs.inspect.words import command

    print(
        f"{output.size(totals.wasted)} of {output.size(totals.size)} are shipped and never show "
        f"({totals.wasted_percent:.1f}%)"
    )
    if not totals.waste:
        return
    print()
    rows = [
        (output.size(lost), layer.label, command(layer.command or "", _COMMAND))
        for layer, lost in by_hider(totals).items()
    ]
    output.print_table(("HIDES", "LAYER", "COMMAND"), rows)
    print()
    files = [
        (output.size(one.bytes), str(one.layer.number), f"{one.act.value} by {one.hider.number}",
         output.plain(one.path))
        for one in totals.waste[:_SHOWN]
    ]  # fmt: skip
    output.print_table(("WASTED", "LAYER", "HOW", "PATH"), files)
    if len(totals.waste) > _SHOWN:
        print(f"… and {len(totals.waste) - _SHOWN} more (--json has all)")


def _judge(context: Context, image: ImageRecord, totals: Totals) -> None:
    """Raise TooMuchWasteError if the image wastes more than the options allow."""
    args = context.args
    label = output.image_label(image.names, image.id.short)
    if args.max_wasted_bytes is not None and totals.wasted > args.max_wasted_bytes:
        raise TooMuchWasteError(
            f"image {label} wastes {totals.wasted} bytes, more than {args.max_wasted_bytes}"
        )
    if args.max_wasted_percent is not None and totals.wasted_percent > args.max_wasted_percent:
        raise TooMuchWasteError(
            f"image {label} wastes {totals.wasted_percent:.1f}%, more than "
            f"{args.max_wasted_percent:g}%"
        )


def _diff(context: Context) -> int:
    from unionfs.container.subject import of_image
    from unionfs.inspect.compare import differences
    from unionfs.inspect.stack import Stack

    with context.store() as store:
        sources = [
            of_image(store, store.images.resolve(word))
            for word in (context.args.first, context.args.second)
        ]
    with Stack(sources[0]) as first, Stack(sources[1]) as second:
        found = differences(first, second)
        if context.json:
            output.print_json(
                [
                    {"kind": one.kind, "path": output.text_of(one.path), "changed": list(one.what)}
                    for one in found
                ]
            )
            return 0
        for one in found:
            what = f"  ({', '.join(one.what)})" if one.what else ""
            print(f"{one.kind} {output.plain(one.path)}{what}")
    return 0
