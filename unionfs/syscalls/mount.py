"""mount(2), umount2(2) and what /proc/self/mountinfo says."""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass

from unionfs.syscalls._libc import check, function

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

_mount = function(
    "mount", ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p
)
_umount2 = function("umount2", ctypes.c_char_p, ctypes.c_int)
_ESCAPE = re.compile(rb"\\([0-7]{3})")


def mount(source: bytes, target: bytes, kind: bytes, flags: int = 0, data: bytes = b"") -> None:
    """Mount as mount(2): *flags* are ``MS_*``. Raises OSError naming the target."""
    check(_mount(source, target, kind, flags, data or None), target)


def umount(target: bytes, flags: int = 0) -> None:
    """Unmount as umount2(2): *flags* are ``MNT_*`` and ``UMOUNT_*``. Raises OSError."""
    check(_umount2(target, flags), target)


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of mountinfo (proc(5)): IDs, the device number, root, target, type and source."""

    mount_id: int
    parent_id: int
    device: str
    root: bytes
    target: bytes
    options: bytes
    kind: bytes
    source: bytes
    super_options: bytes


def mount_table(path: str = "/proc/self/mountinfo") -> list[MountEntry]:
    """Return the mounts that this process sees, in mount order."""
    with open(path, "rb") as table:
        return [_entry(line) for line in table]


def mounts_at(target: bytes) -> list[MountEntry]:
    """Return the mounts on exactly *target* (absolute, resolved), the topmost last."""
    return [entry for entry in mount_table() if entry.target == target]


def _entry(line: bytes) -> MountEntry:
    left, _, right = line.rstrip(b"\n").partition(b" - ")
    words = left.split(b" ")
    kind, source, super_options = [*right.split(b" "), b"", b""][:3]
    return MountEntry(
        mount_id=int(words[0]),
        parent_id=int(words[1]),
        device=os.fsdecode(words[2]),
        root=_plain(words[3]),
        target=_plain(words[4]),
        options=words[5],
        kind=kind,
        source=_plain(source),
        super_options=super_options,
    )


def _plain(word: bytes) -> bytes:
    return _ESCAPE.sub(lambda m: bytes((int(m[1], 8),)), word)
