"""Why a path of a stack is what it is: every component, every layer, and what follows from it."""

from __future__ import annotations

import enum
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace

from unionfs.inspect.copies import (
    Blame,
    Copy,
    blame_of,
    comparer,
    copy_of,
    indexed_copy,
    is_without_data,
)
from unionfs.inspect.similar import similar
from unionfs.inspect.stack import LayerName, Source, Stack
from unionfs.union.node import Node
from unionfs.union.reasons import ChangedError, How, Places, Said, Says

_MAX_LINKS = 40  # as the kernel (MAXSYMLINKS)
_PATIENCE = 5  # looks at an upper that somebody changes meanwhile


class Outcome(enum.Enum):
    """What a lookup of the path ends with."""

    FOUND = "found"
    HIDDEN = "hidden"  # some layer has it, and something above hides it
    ABSENT = "absent"  # no layer has it
    NO_PARENT = "no parent"  # a directory on the way is not there
    NOT_A_DIRECTORY = "not a directory"  # something on the way is no directory
    LINK_LOOP = "link loop"  # more than 40 symbolic links


class Write(enum.Enum):
    """What opening for writing would do."""

    IN_PLACE = "in place"
    COPY_UP = "copy-up"
    FETCH = "fetch data"  # the upper has a copy without its data
    CREATE = "create"
    FOLLOW = "follow the link"
    ATTRIBUTES = "attributes only"  # a device, fifo or socket: data does not go to the filesystem
    READ_ONLY = "read-only"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one layer says about one component.

    ``elsewhere``: the path in this layer of its part of the merged directory, where a redirect
    leads there. ``size`` is of files, in bytes.
    """

    layer: LayerName
    says: Says
    kind: int = 0
    size: int | None = None
    counts: bool = False
    hidden: Blame | None = None
    opaque: bool = False
    redirect: bytes | None = None
    elsewhere: bytes | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One component: its *path* in the merged tree, what the layers say, what shows (or None).

    ``link`` is the target of a symbolic link that the walk followed here.
    """

    path: bytes
    verdicts: Sequence[Verdict]
    shown: Copy | None
    link: bytes | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a write would do: *bytes* of content copied, *directories* that would be copied up."""

    what: Write
    bytes: int = 0
    directories: int = 0


_IMPOSSIBLE = Plan(Write.IMPOSSIBLE)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the path *asked* is what it is; *path* is where the links on its way lead.

    ``shown`` is the copy that shows, ``copies`` those that the layers have, topmost first, what is
    hidden included. ``missing`` is the component that is not there, or is no directory; ``blame``
    what hides or deletes it. ``similar`` are names beside ``missing`` that may have been meant.
    """

    subject: str
    asked: bytes
    path: bytes
    outcome: Outcome
    steps: Sequence[Step]
    copies: Sequence[Copy]
    write: Plan
    missing: bytes | None = None
    blame: Blame | None = None
    similar: Sequence[bytes] = ()

    @property
    def shown(self) -> Copy | None:
        """The copy that shows at the path."""
        return self.steps[-1].shown if self.outcome is Outcome.FOUND else None


def explain(source: Source, path: bytes) -> Explanation:
    """Explain *path*, which counts from the root of *source*.

    The last component is not followed if it is a symbolic link, unless a slash ends the path.
    Raises BadLayerError, OSError, and ChangedError if the upper does not hold still.
    """
    for attempt in range(_PATIENCE):
        try:
            with Stack(source) as stack:
                return explain_in(stack, path)
        except ChangedError:
            if attempt + 1 == _PATIENCE:
                raise
    raise AssertionError


def explain_in(stack: Stack, path: bytes, *, compare: bool = True) -> Explanation:
    """As ``explain``, on a stack that is open: for many paths of what nobody changes meanwhile.

    Not to *compare* the content of copies leaves their data unread.
    """
    return _Walk(stack, path, compare).run()


@dataclass(slots=True)
class _Spot:
    """A directory of the merged tree on the way from the root, and what the layers say about it."""

    node: Node
    places: Places
    path: bytes
    said: Sequence[Said]


class _Walk:
    """One walk along the path *asked*."""

    def __init__(self, stack: Stack, asked: bytes, compare: bool) -> None:
        self._stack = stack
        self._compare = compare
        self._reasons = stack.reasons
        self._asked = asked
        self._steps: list[Step] = []
        root = stack.tree.root
        self._top = _Spot(root, self._reasons.at_root(), b"/", self._reasons.of_root())

    def run(self) -> Explanation:
        way, names, links = [self._top], _names(self._asked), 0
        while names:
            name = names.pop(0)
            if name in (b".", b".."):
                way = way[:-1] if name == b".." and len(way) > 1 else way
                continue
            here = _below(way[-1].path, name)
            child, said, places = self._reasons.look(way[-1].node, way[-1].places, name)
            step = self._step(here, said)
            self._steps.append(step)
            if child is None:
                return self._absent(way, name, names, said, places)
            if child.kind == stat.S_IFLNK and names:
                links += 1
                target = (step.shown.target if step.shown else None) or b""
                self._steps[-1] = replace(step, link=target)
                if links > _MAX_LINKS:
                    return self._stopped(Outcome.LINK_LOOP, here)
                way = [self._top] if target.startswith(b"/") else way
                names = _names(target) + names
            elif child.is_dir:
                way = [*way, _Spot(child, places, here, said)]
            elif names:
                return self._covered(here, names, places)
            else:
                return self._file(way, child, said)
        return self._directory(way)

    def _step(self, path: bytes, said: Sequence[Said]) -> Step:
        copies = [copy_of(self._stack, one) for one in said]
        counting = (i for i, one in enumerate(said) if one.counts)
        first = next(counting, None)
        shown = None if first is None else copies[first]
        if first is not None:
            shown = indexed_copy(self._stack, said[first]) or shown
        verdicts = [self._verdict(*pair) for pair in zip(said, copies, strict=True)]
        return Step(path, verdicts, shown)

    def _verdict(self, said: Said, copy: Copy | None) -> Verdict:
        elsewhere = said.merged.path() if said.elsewhere and said.merged else None
        return Verdict(
            layer=self._stack.name_of(said.layer),
            says=said.says,
            kind=said.kind,
            size=copy.size if copy is not None and copy.kind == stat.S_IFREG else None,
            counts=said.counts,
            hidden=blame_of(self._stack, said.hidden),
            opaque=said.opaque,
            redirect=said.redirect,
            elsewhere=elsewhere,
        )

    def _copies(self, said: Sequence[Said], node: Node | None) -> list[Copy]:
        """Return the copies of the last component, those with content compared to what shows."""
        copies = [copy for one in said if (copy := copy_of(self._stack, one)) is not None]
        shown = self._steps[-1].shown
        if not self._compare or node is None or shown is None:
            return copies
        same = comparer(self._stack, node, shown)
        return [copy if copy.counts else replace(copy, same=same(copy)) for copy in copies]

    def _file(self, way: Sequence[_Spot], node: Node, said: Sequence[Said]) -> Explanation:
        plan = self._plan(way, node, next(one for one in said if one.counts))
        return self._found(self._steps[-1].path, self._copies(said, node), plan)

    def _directory(self, way: Sequence[_Spot]) -> Explanation:
        last = way[-1]
        if not self._steps or self._steps[-1].path != last.path:
            self._steps.append(self._step(last.path, last.said))  # the root, or where .. leads
        if self._stack.source.read_only:
            plan = Plan(Write.READ_ONLY)
        else:
            above = _outside_upper(way)
            plan = Plan(Write.COPY_UP if above else Write.IN_PLACE, directories=above)
        return self._found(last.path, self._copies(last.said, last.node), plan)

    def _found(self, path: bytes, copies: Sequence[Copy], plan: Plan) -> Explanation:
        return self._end(path, Outcome.FOUND, copies=copies, write=plan)

    def _stopped(self, outcome: Outcome, missing: bytes) -> Explanation:
        return self._end(missing, outcome, missing=missing)

    def _absent(
        self,
        way: Sequence[_Spot],
        name: bytes,
        names: Sequence[bytes],
        said: Sequence[Said],
        places: Places,
    ) -> Explanation:
        missing = path = self._steps[-1].path
        blame = self._blame(said)
        near = similar(name, self._stack.tree.load(way[-1].node))
        below = [one for one in names if one != b"."]
        path, copies = self._hidden(path, below, said, places)
        nowhere = Outcome.NO_PARENT if below else Outcome.ABSENT
        return self._end(
            path,
            Outcome.HIDDEN if copies else nowhere,
            copies=copies,
            write=self._creation(way, bool(below)),
            missing=missing,
            blame=blame,
            similar=near,
        )

    def _covered(self, path: bytes, names: Sequence[bytes], places: Places) -> Explanation:
        """Explain a path below a file; layers below the file's may have it."""
        below = [one for one in names if one != b"."]
        path, copies = self._hidden(missing := path, below, (), places)
        hides = next((copy.hidden for copy in copies), None)
        return self._end(path, Outcome.NOT_A_DIRECTORY, copies=copies, missing=missing, blame=hides)

    def _hidden(
        self, path: bytes, names: Sequence[bytes], said: Sequence[Said], places: Places
    ) -> tuple[bytes, Sequence[Copy]]:
        """Go on along *names* below *path*, which does not show; return the end and its copies."""
        for name in names:
            said, places = self._reasons.look_hidden(places, name)
            path = _below(path, name)
            self._steps.append(self._step(path, said))
        return path, self._copies(said, None)

    def _blame(self, said: Sequence[Said]) -> Blame | None:
        """Return what hides the topmost copy of a missing name, else the whiteout for none."""
        for one in said:
            if one.says is Says.HAS:
                return blame_of(self._stack, one.hidden)
        for one in said:
            if one.says is Says.WHITEOUT:
                return Blame(self._stack.name_of(one.layer), How.WHITEOUT, self._steps[-1].path)
        return None

    def _creation(self, way: Sequence[_Spot], without_parent: bool) -> Plan:
        if self._stack.source.read_only:
            return Plan(Write.READ_ONLY)
        if without_parent:
            return Plan(Write.IMPOSSIBLE)
        return Plan(Write.CREATE, directories=_outside_upper(way))

    def _plan(self, way: Sequence[_Spot], node: Node, said: Said) -> Plan:
        """Return what a write to the file *node* would do, which *said* shows."""
        shown = self._steps[-1].shown
        assert shown is not None
        if node.kind == stat.S_IFLNK:
            return Plan(Write.FOLLOW)
        if self._stack.source.read_only:
            return Plan(Write.READ_ONLY)
        if node.kind != stat.S_IFREG:
            return Plan(Write.ATTRIBUTES)
        if shown.layer == self._stack.source.layers[0]:
            fetched = said.layer.number == 0 and is_without_data(self._stack, said)
            return Plan(Write.FETCH, shown.size) if fetched else Plan(Write.IN_PLACE)
        return Plan(Write.COPY_UP, shown.size, _outside_upper(way))

    def _end(
        self,
        path: bytes,
        outcome: Outcome,
        *,
        copies: Sequence[Copy] = (),
        write: Plan = _IMPOSSIBLE,
        missing: bytes | None = None,
        blame: Blame | None = None,
        similar: Sequence[bytes] = (),
    ) -> Explanation:
        return Explanation(
            subject=self._stack.source.subject,
            asked=self._asked,
            path=path,
            outcome=outcome,
            steps=self._steps,
            copies=copies,
            write=write,
            missing=missing,
            blame=blame,
            similar=similar,
        )


def _names(path: bytes) -> list[bytes]:
    """Return the components of *path*; a slash at its end is one more, ``.``."""
    names = [name for name in path.split(b"/") if name not in (b"", b".")]
    return [*names, b"."] if names and path.endswith((b"/", b"/.")) else names


def _below(path: bytes, name: bytes) -> bytes:
    return path.rstrip(b"/") + b"/" + name


def _outside_upper(way: Sequence[_Spot]) -> int:
    """Return how many directories of *way* have no copy in the upper yet."""
    return sum(not spot.node.in_upper for spot in way)
