"""Which processes keep a mount busy, as far as /proc shows this user.

Nothing is looked up on the mount itself, whose daemon may hang: descriptors are compared by mount
ID (fdinfo), directories by the path that the kernel prints, mappings by device number (proc(5)).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from unionfs.syscalls.mount import MountEntry

_PROC = b"/proc"


def holders(entry: MountEntry) -> list[tuple[int, str]]:
    """Return the (pid, name) of every visible process that uses the mount *entry*."""
    pids = sorted(int(name) for name in os.listdir(_PROC) if name.isdigit())
    return [(pid, _name(pid)) for pid in pids if _holds(pid, entry)]


def servers(entry: MountEntry, name: str) -> list[int]:
    """Return the pids of the visible processes called *name* that answer for the mount *entry*.

    Needs Linux 6.10, which says in fdinfo what connection a descriptor of /dev/fuse is.
    """
    line = b"fuse_connection:\t%d\n" % int(entry.device.partition(":")[2])
    pids = [int(found) for found in os.listdir(_PROC) if found.isdigit()]
    return [pid for pid in pids if _name(pid) == name and _any_fdinfo(pid, line)]


def _any_fdinfo(pid: int, line: bytes) -> bool:
    directory = b"%s/%d/fdinfo" % (_PROC, pid)
    try:
        names = os.listdir(directory)
    except OSError:
        return False
    return any(line in _read(directory + b"/" + name) for name in names)


def _holds(pid: int, entry: MountEntry) -> bool:
    process = b"%s/%d" % (_PROC, pid)
    return (
        any(_is_below(_link(process + b"/" + which), entry.target) for which in (b"cwd", b"root"))
        or any(mount_id == entry.mount_id for mount_id in _mount_ids(process + b"/fdinfo"))
        or _maps_device(process + b"/maps", _as_in_maps(entry.device))
    )


def _name(pid: int) -> str:
    return _read(b"%s/%d/comm" % (_PROC, pid)).decode(errors="replace").strip() or "?"


def _is_below(path: bytes, target: bytes) -> bool:
    return path == target or path.startswith(target.rstrip(b"/") + b"/")


def _link(path: bytes) -> bytes:
    try:
        return os.readlink(path)
    except OSError:
        return b""  # gone, or another user's


def _read(path: bytes) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _mount_ids(directory: bytes) -> Iterator[int]:
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        for line in _read(directory + b"/" + name).splitlines():
            if line.startswith(b"mnt_id:"):
                yield int(line.split()[1])


def _as_in_maps(device: str) -> bytes:
    """Return *device* (``major:minor`` as in mountinfo) in the hexadecimal of maps."""
    major, _, minor = device.partition(":")
    return b"%02x:%02x" % (int(major), int(minor))


def _maps_device(path: bytes, device: bytes) -> bool:
    return any(line.split(None, 4)[3] == device for line in _read(path).splitlines())
