"""What a layer may cost before it is taken for a bomb."""

from __future__ import annotations

from dataclasses import dataclass

from unionfs.errors import RefusedError


class LimitError(RefusedError):
    """A layer goes beyond one of the limits, each of which can be raised."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on one layer; the defaults are far above what images hold.

    ``max_bytes``: length of the uncompressed tar, and sum of the apparent sizes of its files (a
    sparse file can claim much with few bytes). ``max_entries``: files and directories made, those
    that paths imply included; a directory costs some 400 bytes of memory until the layer is done.
    ``max_path``: bytes in one path. ``max_metadata``: bytes of extended headers (long names, pax
    records, sparse maps) of one entry. ``max_kept``: bytes of directory ACLs and names of implied
    directories (of an image archive: names of its members) that are remembered until the end.
    """

    max_bytes: int = 64 << 30
    max_entries: int = 2_000_000
    max_path: int = 16 << 10
    max_metadata: int = 1 << 20  # as Go's archive/tar, which every other image tool reads with
    max_kept: int = 64 << 20

    def exceeded(self, limit: str, what: str) -> LimitError:
        """Return the error for going beyond *limit* (a field's name); *what* says how."""
        value = getattr(self, limit)
        return LimitError(f"{what}: more than {limit}={value} allows (raise it: --limit {limit}=N)")


UNLIMITED = Limits(1 << 62, 1 << 62, 1 << 62, 1 << 62, 1 << 62)
"""For what we wrote ourselves."""
