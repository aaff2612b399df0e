"""The life of one path: every version that an image's layers have of it, and every deletion."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass

from unionfs.inspect.anatomy import Act
from unionfs.inspect.copies import Copy
from unionfs.inspect.explain import Explanation, Step
from unionfs.inspect.stack import LayerName
from unionfs.union.reasons import Says


@dataclass(frozen=True, slots=True)
class Version:
    """What *layer* did to the path; ``copy`` is what it brought, None for a deletion."""

    layer: LayerName
    act: Act
    copy: Copy | None


def versions(found: Explanation) -> list[Version]:
    """Return the life of the path that *found* explains, from the bottom layer up."""
    copies = {copy.layer: copy for copy in found.copies}
    life: list[Version] = []
    alive: Copy | None = None
    steps = _components(found)
    for place in reversed(range(len(steps[-1].verdicts))):
        layer = steps[-1].verdicts[place].layer
        copy = copies.get(layer)
        if copy is None:
            if alive is not None and _takes_away(steps, place):
                life.append(Version(layer, Act.DELETED, None))
                alive = None
        else:
            both_directories = alive is not None and alive.kind == copy.kind == stat.S_IFDIR
            if not (both_directories and alive is not None and _same(alive, copy)):
                life.append(Version(layer, Act.CHANGED if alive else Act.ADDED, copy))
            alive = copy
    return life


def _components(found: Explanation) -> Sequence[Step]:
    """Return the steps that lead straight to the path, without those of links on the way."""
    return [
        step
        for step in found.steps
        if step.path == found.path or found.path.startswith(step.path.rstrip(b"/") + b"/")
    ]


def _takes_away(steps: Sequence[Step], place: int) -> bool:
    """Return whether a layer, which has nothing at the path, removes what is below it there."""
    *above, last = steps
    if last.verdicts[place].says is Says.WHITEOUT:
        return True
    said = [step.verdicts[place] for step in above]
    return any(
        one.says is Says.WHITEOUT
        or one.opaque
        or (one.says is Says.HAS and one.kind != stat.S_IFDIR)
        for one in said
    )


def _same(one: Copy, other: Copy) -> bool:
    return (one.mode, one.uid, one.gid) == (other.mode, other.uid, other.gid)
