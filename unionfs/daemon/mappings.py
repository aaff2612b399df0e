"""Files of a mount that processes have mapped shared and may write to, as far as /proc shows.

Through such a map a file changes without a request, and the kernel keeps what was written to itself
until the map goes, somebody syncs, or it needs the room (mmap(2), "MAP_SHARED"). That a map has
gone takes its pages along; syncfs(2) begins to write them for a FUSE mount and does not wait.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from unionfs.syscalls.mount import mount_table

_PROC = "/proc"


@dataclass(frozen=True, slots=True)
class Mapping:
    """A shared map that *pid* (called *name*) can write through: of which file, at which addresses.

    ``paused``: its control group is frozen, so that it writes nothing (cgroups(7), "freezer").
    """

    pid: int
    name: str
    path: str
    addresses: str
    paused: bool

    def sync(self) -> None:
        """Bring what was written through it to the file. Raises OSError."""
        place = f"{_PROC}/{self.pid}/map_files/{self.addresses}"
        try:
            fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:  # map_files takes CAP_CHECKPOINT_RESTORE; the path is as good
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def mappings(device: str) -> list[Mapping]:
    """Return the shared writable maps of files on *device* (``major:minor`` as in mountinfo)."""
    major, _, minor = device.partition(":")
    shown = f"{int(major):02x}:{int(minor):02x}"
    pids = sorted(int(name) for name in os.listdir(_PROC) if name.isdigit())
    return [found for pid in pids for found in _of_process(pid, shown)]


def _of_process(pid: int, device: str) -> Iterator[Mapping]:
    for line in _read(f"{_PROC}/{pid}/maps").splitlines():
        words = line.split(None, 5)  # proc_pid_maps(5): addresses, modes, offset, device, inode
        if len(words) == 6 and words[1][1] == "w" and words[1][3] == "s" and words[3] == device:
            name = _read(f"{_PROC}/{pid}/comm").strip() or "?"
            path = words[5].removesuffix(" (deleted)")
            yield Mapping(pid, name, path, words[0], _is_paused(pid))


def _is_paused(pid: int) -> bool:
    """Return whether a freezer, of the second version of control groups or the first, has *pid*."""
    for line in _read(f"{_PROC}/{pid}/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        for root in _hierarchies(controllers):
            if "frozen 1" in _read(f"{root}{group}/cgroup.events"):
                return True
            if _read(f"{root}{group}/freezer.state") == "FROZEN\n":
                return True
    return False


def _hierarchies(controllers: str) -> list[str]:
    """Return where control groups are mounted: with a freezer, or (no controllers) version 2."""
    if controllers == "":
        return [os.fsdecode(one.target) for one in mount_table() if one.kind == b"cgroup2"]
    if "freezer" not in controllers.split(","):
        return []
    return [
        os.fsdecode(one.target)
        for one in mount_table()
        if one.kind == b"cgroup" and b"freezer" in one.super_options.split(b",")
    ]


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""  # gone, or another user's
