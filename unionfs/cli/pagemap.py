"""The map of a report: the directories of an image as a tree that is small enough to draw.

A node is a plain dictionary, because it becomes JSON in the page (``cli/page/report.js``):
``n`` name, ``b`` bytes, ``l`` bytes that never show, ``f`` files, ``k`` colour, and for a directory
``c``, what is in it, the largest first. What is too small to be seen is one node together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unionfs.cli import output

if TYPE_CHECKING:
    from unionfs.inspect.footprint import Folder, Footprint, Large
    from unionfs.inspect.stack import LayerName

_SHARE = 1500  # less than this part of the image is too small to be drawn
_DEPTH = 16
_COLOURS = 8  # of the style sheet; 0 is for what is no layer
_TABLE_DEPTH = 3
_TABLE_SHARE = 200
Node = dict[str, Any]


def colour(number: int | None) -> int:
    """Return the colour of a layer."""
    return 0 if number is None else (number - 1) % _COLOURS + 1


def trees(
    footprint: Footprint, colours: Mapping[int, int], hidden: Collection[tuple[bytes, LayerName]]
) -> dict[str, Node]:
    """Return the image as a tree by layers and as one by directories; *hidden* files never show."""
    least = max(footprint.whole.size // _SHARE, 1)
    layers = []
    for name, folder in footprint.layers.items():
        files = [one for one in footprint.largest if one.layer == name]
        label = (
            name.label if name.command is None else f"{name.label}: {output.shown(name.command)}"
        )
        drawing = _Drawing(least, files, hidden)
        layers.append(drawing.node(label[:80], folder, b"", colours.get(name.number or 0, 0), 0))
    whole = _Drawing(least, footprint.largest, hidden).node("image", footprint.whole, b"", 0, 0)
    for place, child in enumerate(whole.get("c", ())):
        _paint(child, place % _COLOURS + 1)
    by_layer = _node("image", footprint.whole, 0)
    by_layer["c"] = sorted(layers, key=_largest_first)
    return {"layers": by_layer, "whole": whole}


def table(top: Node) -> list[dict[str, Any]]:
    """Return the rows of a table for those who do not see the map: its larger directories."""
    whole = max(top["b"], 1)
    return [
        {
            "name": node["n"],
            "depth": depth,
            "bytes": node["b"],
            "percent": 100 * node["b"] / whole,
            "lost": node["l"],
        }
        for node, depth in _rows(top, whole // _TABLE_SHARE)
    ]


def _rows(top: Node, least: int) -> Iterator[tuple[Node, int]]:
    pending = [(child, 0) for child in reversed(top.get("c", ()))]
    while pending:
        node, depth = pending.pop()
        yield node, depth
        if depth < _TABLE_DEPTH:
            below = [child for child in node.get("c", ()) if child["b"] > least]
            pending.extend((child, depth + 1) for child in reversed(below))


class _Drawing:
    """The tree of one layer, or of the image: *files* are those that get a node of their own."""

    def __init__(
        self, least: int, files: Sequence[Large], hidden: Collection[tuple[bytes, LayerName]]
    ) -> None:
        self._least = least
        self._hidden = hidden
        self._files: dict[bytes, list[Large]] = defaultdict(list)
        for one in files:
            if one.size >= least:
                self._files[one.path.rpartition(b"/")[0]].append(one)

    def node(self, name: str, folder: Folder, path: bytes, hue: int, depth: int) -> Node:
        """Return the node of the directory *path*; deeper than ``_DEPTH`` nothing is drawn."""
        node = _node(name, folder, hue)
        if depth < _DEPTH and folder.size >= self._least:
            children = [
                self.node(output.plain(inner) + "/", below, path + b"/" + inner, hue, depth + 1)
                for inner, below in folder.folders.items()
                if below.size >= self._least
            ]
            children += self._own_files(path, hue)
            if children:
                children += _rest(folder, children, hue)
                node["c"] = sorted(children, key=_largest_first)
        return node

    def _own_files(self, path: bytes, hue: int) -> Iterator[Node]:
        for one in self._files.get(path, ()):
            name = output.plain(one.path.rpartition(b"/")[2])
            lost = one.size if (one.path, one.layer) in self._hidden else 0
            yield {"n": name, "b": one.size, "l": lost, "f": 1, "k": hue}


def _rest(folder: Folder, children: Sequence[Node], hue: int) -> list[Node]:
    """Return a node for what of *folder* the *children* are not."""
    left = {key: sum(child[key] for child in children) for key in ("b", "l", "f")}
    size, files = folder.size - left["b"], folder.files - left["f"]
    if size <= 0:
        return []
    lost = min(max(folder.lost - left["l"], 0), size)
    return [
        {
            "n": f"{output.counted(files, 'smaller file')}",
            "b": size,
            "l": lost,
            "f": files,
            "k": hue,
        }
    ]


def _node(name: str, folder: Folder, hue: int) -> Node:
    lost = min(folder.lost, folder.size)
    return {"n": name, "b": folder.size, "l": lost, "f": folder.files, "k": hue}


def _largest_first(node: Node) -> tuple[int, str]:
    return -node["b"], node["n"]


def _paint(node: Node, hue: int) -> None:
    node["k"] = hue
    for child in node.get("c", ()):
        _paint(child, hue)
