"""Differences that are documented; each says where.

What follows one in a case is not looked at: the trees are not the same any more.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.support.anycalls.actor import Step
from tests.support.anycalls.compare import ANSWER, Facet, Seen
from tests.support.anycalls.trees import CAPABILITY


class Found(NamedTuple):
    """What differs by a step; *was*: what our side showed before."""

    step: Step
    was: Seen
    facets: Sequence[Facet]


def is_known(found: Found, *, pure: bool) -> bool:
    """Return whether that is documented. *pure*: the mount is without the extension."""
    return any(reason(found) for reason in (*_KNOWN, *(_KNOWN_PURE if pure else ())))


def _answers(found: Found) -> tuple[object, object] | None:
    first = found.facets[0]
    return (first.plain, first.ours) if first.name == ANSWER else None


def _mode(told: str | None) -> int:
    """Return the mode that *told* says; nothing of what is not there."""
    return int(told or "0", 8)


def _chown_to_the_same(found: Found) -> bool:
    """chown(-1, -1) by who may not: test_a_stranger_may_ask_for_chown_to_the_same."""
    return found.step[-2:] == (-1, -1) and _answers(found) == ("EPERM", None)


def _set_id_and_capability(found: Found) -> bool:
    """README: root's write to a file that has a capability and set-id bits takes both away."""
    capable = {row["ino"] for row in found.was.values() if CAPABILITY in str(row.get("xattrs"))}
    return all(
        facet.field == "mode"
        and found.was.get(facet.name, {}).get("ino") in capable
        and facet.ours == oct(_mode(facet.plain) & ~(stat.S_ISUID | stat.S_ISGID))
        for facet in found.facets
    )


def _removed_lower_file(found: Found) -> bool:
    """Nothing is written to a layer, so a removed file of one that is open keeps its ctime.

    As with the kernel's overlayfs, which keeps its nlink as well: ``unlink_readable lower-file`` in
    exceptions-calls.
    """
    return all(
        facet.name.startswith("fd ") and facet[1:] == ("ctime", "moved", "stays")
        for facet in found.facets
    )


def _not_supported_without_it(found: Found) -> bool:
    """README: no fallocate(2), O_TMPFILE and chattr; mappings take capabilities away."""
    made = found.step[2] if found.step[0] == "umasked" else found.step
    unnamed = made[0] == "opened" and made[3] & os.O_TMPFILE == os.O_TMPFILE
    return unnamed or made[0] in ("fallocate", "set_flags", "map_write")


def _umask_and_default_acl(found: Found) -> bool:
    """README: a new file in a directory with a default ACL gets it with the umask applied."""
    fields = {facet.field for facet in found.facets}
    return found.step[0] == "umasked" and fields <= {"mode", "xattrs"}


def _set_group_id_stays(found: Found) -> bool:
    """README: a stranger's write leaves set-group-ID where the group has no x."""
    return all(
        facet.field == "mode" and facet.ours == oct(_mode(facet.plain) | stat.S_ISGID)
        for facet in found.facets
    )


Reason = Callable[[Found], bool]
_KNOWN: tuple[Reason, ...] = (_chown_to_the_same, _set_id_and_capability, _removed_lower_file)
_KNOWN_PURE: tuple[Reason, ...] = (
    _not_supported_without_it,
    _umask_and_default_acl,
    _set_group_id_stays,
)
