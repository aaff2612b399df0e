"""Why a lookup ends as it does: the walk of ``Tree``, with what every layer says written down.

The answer is always the driver's own (``Tree.lookup``, ``Tree.ready``), and what the layers say is
read by the same functions: ``Tree.probe``, ``scan`` where types are written down, and the marks
that ``Tree.ready`` left on its parts. Layers that the driver does not ask, because something above
hides their directory, are asked here as well, and what they have is marked as hidden. Nothing of
this runs while files are served.
"""

from __future__ import annotations

import enum
import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from unionfs.errors import ConflictError
from unionfs.ondisk.marks import read_dir_marks
from unionfs.ondisk.whiteout import AUFS_OPAQUE, AUFS_PREFIX
from unionfs.union.layer import Layer, Part
from unionfs.union.node import Node
from unionfs.union.scan import KIND, Scan, scan
from unionfs.union.tree import Tree

_DIR = stat.S_IFDIR


class ChangedError(ConflictError):
    """The upper was changed while it was looked at, so that two looks differ."""


class How(enum.Enum):
    """How something hides what is below it."""

    WHITEOUT = "whiteout"  # deletes the name
    OPAQUE = "opaque"  # a directory that shows nothing of those below
    COVERED = "covered"  # a file has the name, or a directory has it above a file
    REDIRECTED = "redirected"  # the directory's lower parts are looked for elsewhere


class Hidden(NamedTuple):
    """What hides: the *layer*, *how*, and the merged *path* of what does it."""

    layer: Layer
    how: How
    path: bytes


class Says(enum.Enum):
    """What one layer has at one name."""

    HAS = "has"
    ABSENT = "absent"
    WHITEOUT = "whiteout"
    NO_DIRECTORY = "no directory"  # the directory itself is not in this layer


@dataclass(slots=True)
class Said:
    """What *layer* says about a name of one directory.

    ``part`` and ``name``: where it was looked for. ``kind`` (``S_IF*``) of what it has.
    ``counts``: it is the copy that shows, or one of the parts of the merged directory; ``hidden``
    is set where it would, but for something above it. ``merged`` is this layer's part of the merged
    directory; a redirect may have brought it in from another place (``elsewhere``), and then
    ``hidden`` is about what is here.
    """

    layer: Layer
    says: Says
    name: bytes
    part: Part | None = None
    kind: int = 0
    counts: bool = False
    hidden: Hidden | None = None
    opaque: bool = False
    redirect: bytes | None = None
    merged: Part | None = None

    @property
    def elsewhere(self) -> bool:
        """Whether the merged directory's part of this layer is at another path of it."""
        part = self.merged
        return part is not None and (part.parent is not self.part or part.name != self.name)


class Place(NamedTuple):
    """Where one layer has a directory of the merged tree, and what hides that, if anything."""

    part: Part
    hidden: Hidden | None


Places = Mapping[int, Place]  # by the layer's number


class Reasons:
    """Looks into *tree*, which does not change meanwhile: what was read once is kept."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._scans: dict[tuple[int, bytes], Scan] = {}

    def at_root(self) -> Places:
        """Return where the layers have the root: below an opaque one, hidden."""
        shown = {part.layer.number for part in self._tree.root.parts}
        hides = Hidden(self._tree.root.parts[-1].layer, How.OPAQUE, b"/")
        return {
            layer.number: Place(layer.root, None if layer.number in shown else hides)
            for layer in self._tree.layers
        }

    def of_root(self) -> list[Said]:
        """Return what the layers say about the root itself."""
        return [
            Said(
                part.layer,
                Says.HAS,
                b"",
                kind=_DIR,
                counts=hidden is None,
                hidden=hidden,
                opaque=_is_opaque(part),
                merged=part,
            )
            for part, hidden in self.at_root().values()
        ]

    def look(
        self, directory: Node, places: Places, name: bytes
    ) -> tuple[Node | None, list[Said], Places]:
        """Look *name* up in *directory*, whose *places* an earlier look returned.

        Return the driver's answer, what each layer says (topmost first), and the places of the
        answer. Raises OSError, and ChangedError where the layers say another thing than the driver
        found.
        """
        said = [self._ask(layer, places.get(layer.number), name) for layer in self._tree.layers]
        path = directory.path().rstrip(b"/") + b"/" + name
        _decide(said, places, path)
        child = self._tree.lookup(directory, name)
        if child is not None and child.is_dir:
            _merge(self._tree, child, said, path)
        _compare(child, said)
        return child, said, _next_places(said)

    def look_hidden(self, places: Places, name: bytes) -> tuple[list[Said], Places]:
        """Look *name* up in a directory that does not show: what its *places* have is all hidden.

        Return what each layer says, and the places of the name. Raises OSError.
        """
        said = [self._ask(layer, places.get(layer.number), name) for layer in self._tree.layers]
        for one in said:
            if one.says is Says.HAS:
                one.hidden = places[one.layer.number].hidden
        return said, _next_places(said)

    def _ask(self, layer: Layer, place: Place | None, name: bytes) -> Said:
        """Return what *layer* has at *name*, not yet whether that counts."""
        if place is None:
            return Said(layer, Says.NO_DIRECTORY, name)
        said = Said(layer, Says.ABSENT, name, place.part)
        kind = self._kind(place, name)
        if kind == 0:
            said.says = Says.WHITEOUT
        elif kind is not None:
            said.says, said.kind = Says.HAS, kind
        return said

    def _kind(self, place: Place, name: bytes) -> int | None:
        """Return what ``Tree.probe`` says; it reads no directory, however large that is."""
        part = place.part
        if place.hidden is not None:  # the driver has not looked at its marks
            part.whiteout_files = read_dir_marks(part.fd(), part.layer.flavour).whiteout_files
        if part.layer.override is not None or (part.layer.aufs and name.startswith(AUFS_PREFIX)):
            found = self._scan(part)
            entry = found.entries.get(name)
            return entry & KIND if entry is not None else 0 if name in found.whiteouts else None
        try:
            return self._tree.probe(part, name)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return None

    def _scan(self, part: Part) -> Scan:
        key = (part.layer.number, part.path())
        found = self._scans.get(key)
        if found is None:
            found = self._scans[key] = scan(part)
        return found


def _decide(said: list[Said], places: Places, path: bytes) -> None:
    """Say of each what counts, going down as ``Tree._merge`` does."""
    closed: Hidden | None = None
    above: Said | None = None  # the topmost that counts
    for one in said:
        if one.says in (Says.NO_DIRECTORY, Says.ABSENT):
            continue
        place = places[one.layer.number]
        one.hidden = place.hidden or closed
        if one.hidden is not None:
            continue
        if one.says is Says.WHITEOUT:
            closed = Hidden(one.layer, How.WHITEOUT, path)
        elif above is None or one.kind == above.kind == _DIR:
            one.counts = True
            above = above or one
            if one.kind != _DIR:
                closed = Hidden(one.layer, How.COVERED, path)
        else:
            one.hidden = Hidden(above.layer, How.COVERED, path)
            closed = Hidden(one.layer, How.COVERED, path)


def _merge(tree: Tree, child: Node, said: list[Said], path: bytes) -> None:
    """Correct what counts by the parts of the merged directory *child*, its marks included."""
    parts = {part.layer.number: part for part in tree.ready(child)}
    closed: Hidden | None = None
    for one in said:
        part = one.merged = parts.get(one.layer.number)
        if one.counts and (part is None or one.elsewhere):
            one.hidden = closed
        one.counts = part is not None
        if part is None:
            continue
        one.opaque, one.redirect = _is_opaque(part), part.redirect
        if one.redirect is not None:
            closed = Hidden(one.layer, How.REDIRECTED, path)
        elif one.opaque:
            closed = Hidden(one.layer, How.OPAQUE, path)


def _is_opaque(part: Part) -> bool:
    return part.opaque or (part.layer.aufs and _has_marker(part))


def _has_marker(part: Part) -> bool:
    try:
        os.stat(AUFS_OPAQUE, dir_fd=part.fd(), follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _compare(child: Node | None, said: list[Said]) -> None:
    """Raise ChangedError unless the topmost that counts is where the driver found *child*."""
    counts = [one for one in said if one.counts]
    if child is None:
        agrees = not counts
    elif child.is_dir:
        agrees = [one.layer for one in counts] == [part.layer for part in child.parts]
    else:
        number = 0 if child.source is None else child.source.layer.number
        agrees = [one.layer.number for one in counts] == [number]
    if not agrees:
        raise ChangedError(f"{said[0].name!r} was changed while it was looked at: try again")


def _next_places(said: list[Said]) -> Places:
    """Return the directories of this name: the driver's own parts, and those that are hidden."""
    places = {}
    for one in said:
        if one.merged is not None:
            places[one.layer.number] = Place(one.merged, None)
        elif one.part is not None and one.says is Says.HAS and one.kind == _DIR:
            part = Part(one.layer, one.part, one.name, one.part.pool)
            places[one.layer.number] = Place(part, one.hidden)
    return places
