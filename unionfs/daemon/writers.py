"""Files of a mount that processes have open for writing, as far as /proc shows.

Nothing is opened for that. Which mounts are of one device is in the processes' own mount tables:
a container's are elsewhere (proc(5), mountinfo), and mount IDs are unique.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from unionfs.syscalls.mount import mount_table

_PROC = "/proc"


@dataclass(frozen=True, slots=True)
class Writer:
    """A process, *pid* (called *name*), that has the regular file *path* open for writing."""

    pid: int
    name: str
    path: str


def writers(device: str) -> list[Writer]:
    """Return who writes to files on *device* (``major:minor`` as in mountinfo).

    The mount must answer: it is asked what kind of file each is.
    """
    pids = sorted(int(name) for name in os.listdir(_PROC) if name.isdigit())
    mounts: dict[str, frozenset[int]] = {}  # by mount namespace
    return [found for pid in pids for found in _of_process(pid, device, mounts)]


def _of_process(pid: int, device: str, mounts: dict[str, frozenset[int]]) -> Iterator[Writer]:
    process = f"{_PROC}/{pid}"
    try:
        namespace = os.readlink(f"{process}/ns/mnt")
        if namespace not in mounts:
            table = mount_table(f"{process}/mountinfo")
            mounts[namespace] = frozenset(one.mount_id for one in table if one.device == device)
        names = os.listdir(f"{process}/fdinfo") if mounts[namespace] else []
    except OSError:
        return  # gone, or another user's
    for name in names:
        if _writes(_read(f"{process}/fdinfo/{name}"), mounts[namespace]):
            path = _regular(f"{process}/fd/{name}")
            if path is not None:
                yield Writer(pid, _read(f"{process}/comm").strip() or "?", path)


def _writes(fdinfo: str, mounts: frozenset[int]) -> bool:
    """Return whether a descriptor is on one of *mounts*, and for writing (proc(5), fdinfo)."""
    said = dict(line.split(":", 1) for line in fdinfo.splitlines() if ":" in line)
    if int(said.get("mnt_id", "-1")) not in mounts:
        return False
    return int(said.get("flags", "0"), 8) & os.O_ACCMODE != os.O_RDONLY


def _regular(link: str) -> str | None:
    """Return the path of the file behind *link*, None for what has no content."""
    try:
        if not stat.S_ISREG(os.stat(link).st_mode):
            return None
        return os.readlink(link).removesuffix(" (deleted)")
    except OSError:
        return None  # closed meanwhile


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""  # gone, or another user's
