"""``unionfs image report``: one page about an image, for a browser.

The page is made by the templates in ``cli/page`` and needs nothing but itself: its style and its
program stand in it, and its content security policy allows those two, by their digests, and nothing
else. Jinja2 escapes whatever an image says (``autoescape``); a name that got past that still could
not run. Only this command imports it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from importlib import resources
from typing import TYPE_CHECKING, Any

from unionfs import __version__
from unionfs.cli import anatomy, history, output, pagemap
from unionfs.cli.context import Context
from unionfs.cli.tree import Branch
from unionfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unionfs.inspect.footprint import Footprint, Large
    from unionfs.inspect.totals import Totals, Waste
    from unionfs.store.records import ImageRecord
    from unionfs.store.store import Store

_FILES = 50  # in each list of files
_STDOUT = "-"


def register(images: Branch) -> None:
    """Add the command of this module to those of ``image``."""
    report = images.command("report", _report, "write a page about an image, for a browser")
    report.add_argument("image", metavar="IMAGE")
    report.add_argument(
        "-o",
        "--output",
        metavar="FILE.html",
        required=True,
        help="where to write it, in place of what is there; - for standard output",
    )


def _report(context: Context) -> int:
    from unionfs.syscalls.publish import write_file

    if context.json:
        raise UsageError("report writes a page; image tree, waste and history have --json")
    with context.store() as store:
        facts = _facts(store, store.images.resolve(context.args.image))
    page = render(facts).encode()
    if context.args.output == _STDOUT:
        sys.stdout.buffer.write(page)
        return 0
    write_file(context.args.output, page, mode=0o644)
    output.print_path(os.fsencode(context.args.output))
    return 0


def render(facts: Mapping[str, Any]) -> str:
    """Return the page about what *facts* say; text in them may be anything."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    pages = Environment(
        loader=PackageLoader("unionfs.cli", "page"), autoescape=True, undefined=StrictUndefined
    )
    pages.filters.update(size=output.size, counted=output.counted)
    style, program = (_part(name) for name in ("report.css", "report.js"))
    return pages.get_template("report.html").render(
        facts,
        style=Markup(style),
        style_digest=_digest(style),
        program=Markup(program),
        program_digest=_digest(program),
        version=__version__,
    )


def _part(name: str) -> str:
    return resources.files("unionfs.cli").joinpath("page", name).read_text("utf-8")


def _digest(text: str) -> str:
    """Return the source that allows exactly *text* in a page (CSP level 3, section 2.3.1)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _facts(store: Store, image: ImageRecord) -> dict[str, Any]:
    """Return all that the page says of *image*."""
    totals, footprint = _walk(store, image)
    rows = anatomy.layer_rows(store, image, totals)
    for row in rows:
        row.update(_of_layer(row, totals, footprint))
    hidden = {(one.path, one.layer) for one in totals.waste}
    wholes = pagemap.trees(footprint, {row["number"]: row["colour"] for row in rows}, hidden)
    shown, rest = totals.waste[:_FILES], totals.waste[_FILES:]
    return {
        "image": _of_image(image),
        "totals": {
            "size": totals.size,
            "wasted": totals.wasted,
            "percent": totals.wasted_percent,
            "files": footprint.whole.files,
            "shared": sum(row["size"] for row in rows if row["shared_with"]),
        },
        "layers": rows,
        "steps": _steps(store, image, rows),
        "waste": [_wasted(one) for one in shown],
        "more_waste": len(rest),
        "more_waste_bytes": sum(one.bytes for one in rest),
        "largest": [_large(one, (one.path, one.layer) in hidden) for one in footprint.largest],
        "rows": pagemap.table(wholes["layers"]),
        "map": wholes,
    }


def _walk(store: Store, image: ImageRecord) -> tuple[Totals, Footprint]:
    from unionfs.container.layers import whole_image
    from unionfs.inspect.anatomy import events
    from unionfs.inspect.footprint import Footprint
    from unionfs.inspect.stack import Stack
    from unionfs.inspect.totals import add_up

    source, opaque = whole_image(store, image)
    footprint = Footprint(source.layers, _FILES)
    with Stack(source) as stack:
        return add_up(source.layers, footprint.noting(events(stack, opaque))), footprint


def _of_image(image: ImageRecord) -> dict[str, Any]:
    platform = [image.os, image.architecture, image.variant]
    return {
        "label": output.image_label(image.names, image.id.short),
        "id": str(image.id),
        "names": image.names,
        "platform": output.shown("/".join(part for part in platform if part)),
        "created": output.shown(image.created or ""),
    }


def _of_layer(row: Mapping[str, Any], totals: Totals, footprint: Footprint) -> dict[str, Any]:
    """Return what the page says of a layer beyond ``image tree``."""
    number, whole = row["number"], max(totals.size, 1)
    lost = sum(one.bytes for one in totals.waste if one.layer.number == number)
    return {
        "colour": pagemap.colour(number),
        "percent": 100 * row["size"] / whole,
        "lost": lost,
        "lost_percent": 100 * lost / whole,
        "hides": sum(one.bytes for one in totals.waste if one.hider.number == number),
    }


def _steps(
    store: Store, image: ImageRecord, rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the history, the topmost step first, with what its layers are; or the layers alone."""
    steps = [
        {
            "layer": None if entry["layer"] is None else rows[entry["layer"] - 1],
            "command": output.shown(entry["command"] or ""),
            "created": output.shown(str(entry["created"] or "")),
        }
        for entry in history.steps_of(store, image)
    ]
    return steps[::-1]


def _wasted(one: Waste) -> dict[str, Any]:
    return {
        "bytes": one.bytes,
        "path": output.plain(one.path),
        "layer": one.layer.number,
        "how": one.act.value,
        "hider": one.hider.number,
    }


def _large(one: Large, hidden: bool) -> dict[str, Any]:
    path = output.plain(one.path)
    return {"bytes": one.size, "path": path, "layer": one.layer.number, "hidden": hidden}
