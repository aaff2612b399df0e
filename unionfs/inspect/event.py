"""A request that a mount answered, as ``unionfs trace`` tells of it."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Of these the kernel takes ENOSYS as "done, and never ask again" (fs/fuse in Linux: no_open etc.).
NEEDLESS = frozenset(
    ("access", "flush", "fsync", "fsyncdir", "lseek", "open", "opendir", "poll", "statx")
)


def is_failure(number: int, operation: str) -> bool:
    """Return whether who asked for *operation*, which ended with errno *number*, met an error."""
    return number != 0 and not (number == errno.ENOSYS and operation in NEEDLESS)


@dataclass(slots=True)  # not frozen, which would double what it costs to make one
class Event:
    """One request, from its arrival at the daemon to its answer.

    ``start_ns`` is when it came (ns since the epoch), ``took_ns`` how long it took; ``pid`` is who
    asked (0: the kernel itself, or a process of another PID namespace) and ``command`` its name
    (comm, at most 15 bytes; empty where it had ended). ``operation`` is named as in ``stats``.
    ``path`` begins with ``/``, bytes that are not UTF-8 as surrogates (PEP 383); empty where the
    request is about no file. ``other`` is the second path of a rename, link or copy_file_range,
    else empty. ``layer`` names the layer that shows the file (as the attribute
    ``user.unionfs.layer``: a number from the bottom, or ``upper``), empty where there is none;
    ``size`` is the bytes that were read or written, or the answered size, 0 where that means
    nothing, and ``offset`` where in the file; ``errno`` is 0 for success (a lookup's answer that
    there is no such file is ENOENT). ``extension`` tells whether it was answered without Python.
    """

    start_ns: int
    took_ns: int
    pid: int
    command: str
    operation: str
    path: str
    other: str = ""
    layer: str = ""
    size: int = 0
    offset: int = 0
    errno: int = 0
    extension: bool = False

    @property
    def failed(self) -> bool:
        """Whether the program that asked met an error."""
        return is_failure(self.errno, self.operation)

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Event:
        """Return the event that *document* tells of. Raises TypeError for what is none."""
        return cls(**document)
