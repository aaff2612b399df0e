"""Names of tar entries: cleaned into components, and the whiteouts among them.

Nothing is resolved: a name is cut at its slashes, and what could lead elsewhere is refused.
"""

from __future__ import annotations

from unionfs.errors import RefusedError
from unionfs.ondisk.whiteout import AUFS_META, AUFS_OPAQUE, AUFS_PREFIX
from unionfs.tarball.header import shown
from unionfs.tarball.limits import Limits

NAME_MAX = 255
_NOWHERE = (b"", b".")


class UnsafeEntryError(RefusedError):
    """An entry of a layer that no honest tool writes, or that would leave the layer."""


def components(name: bytes, limits: Limits) -> list[bytes]:
    """Return the components of *name*, empty for the root; leading slashes do not count.

    Raises UnsafeEntryError for ``..`` and for components that no directory can hold, and
    LimitError for a path that is too long.
    """
    if len(name) > limits.max_path:
        raise limits.exceeded("max_path", f"path of {len(name)} bytes: {shown(name)}")
    parts = [part for part in name.split(b"/") if part not in _NOWHERE]
    if b".." in parts:
        raise UnsafeEntryError(f"layer entry {shown(name)} leads out of its directory by '..'")
    if len(name) > NAME_MAX and any(map(_is_too_long, parts)):
        raise UnsafeEntryError(f"layer entry with a name of over {NAME_MAX} bytes: {shown(name)}")
    return parts


def _is_too_long(part: bytes) -> bool:
    """Return whether no directory can hold *part*, or what the whiteout *part* hides."""
    return len(part.removeprefix(AUFS_PREFIX)) > NAME_MAX


def is_aufs_meta(parts: list[bytes]) -> bool:
    """Return whether *parts* name AUFS's own housekeeping (``.wh..wh.plnk`` and the like)."""
    return any(part.startswith(AUFS_META) and part != AUFS_OPAQUE for part in parts)


def hidden_name(leaf: bytes, name: bytes) -> bytes:
    """Return what the whiteout *leaf* (``.wh.X``) hides. Raises UnsafeEntryError naming *name*."""
    hidden = leaf[len(AUFS_PREFIX) :]
    if hidden in (b"", b".", b".."):
        raise UnsafeEntryError(f"layer entry {shown(name)} is a whiteout of nothing")
    return hidden


def check_parents(parents: list[bytes], name: bytes) -> None:
    """Raise UnsafeEntryError if a directory on the way to *name* is spelled like a whiteout."""
    if any(part.startswith(AUFS_PREFIX) for part in parents):
        raise UnsafeEntryError(f"layer entry {shown(name)} is below a whiteout")
