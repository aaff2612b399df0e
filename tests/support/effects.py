"""What a call did: a folder looked at before and after, as named facets that can be compared.

Names are the facets' first word: ``x.mode``, ``x.ctime``, ``folder.mtime``. Times are shown as
"now", or as they are where the tests set them; ``ctime`` as "moved" or "stays", because nobody can
set it. ``ino`` says which of the names of before has this inode number. Access times are left out
unless they are asked for: with FUSE the kernel's caches answer reads, and no time moves.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import NamedTuple

from tests.support.answers import stamp
from tests.support.stacks import IN_NAMESPACE
from tests.support.trees import read_xattrs

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
FOLDER = "folder"
_DEPTH = 2


class Before(NamedTuple):
    """What is remembered of one name."""

    ino: int
    ctime: int


Facets = dict[str, object]


def before(folder: bytes) -> dict[str, Before]:
    """Look at everything in *folder*, and at itself."""
    return {name: Before(st.st_ino, st.st_ctime_ns) for name, (_path, st) in _walk(folder).items()}


def after(folder: bytes, was: dict[str, Before], *, atime: bool = False) -> Facets:
    """Return what *folder* has become."""
    found = _walk(folder)
    owners = {one.ino: name for name, one in reversed(was.items())}
    facets: Facets = {"names": " ".join(sorted(_short(name) for name in found))}
    for name, (path, st) in found.items():
        earlier = was.get(owners.get(st.st_ino, ""))
        facets[f"{name}.ino"] = owners.get(st.st_ino, "new")
        moved = earlier is None or earlier.ctime != st.st_ctime_ns
        facets[f"{name}.ctime"] = "moved" if moved else "stays"
        if atime:
            facets[f"{name}.atime"] = stamp(st.st_atime_ns)
        facets.update((f"{name}.{key}", value) for key, value in _fields(path, st).items())
    return {_short(name): value for name, value in facets.items()}


def lasting(folder: bytes) -> Facets:
    """Return the facets of *folder* that another mount of the same layers has to show as well."""
    found = _walk(folder)
    facets: Facets = {"names": " ".join(sorted(_short(name) for name in found))}
    for name, (path, st) in found.items():
        facets.update((_short(f"{name}.{key}"), value) for key, value in _fields(path, st).items())
    return facets


def _walk(folder: bytes, depth: int = _DEPTH, prefix: str = "") -> dict:
    """Return path and stat of each name in *folder*, *depth* levels deep."""
    found = {} if prefix else {FOLDER: (folder, os.lstat(folder))}
    for name in _names(folder):
        path = folder + b"/" + name
        shown = prefix + os.fsdecode(name)
        st = os.lstat(path)
        found[shown] = (path, st)
        if stat.S_ISDIR(st.st_mode) and depth > 1:
            found |= _walk(path, depth - 1, shown + "/")
    return found


def _names(folder: bytes) -> list[bytes]:
    """List *folder* without a trace in its access time."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOATIME)
    try:
        return sorted(os.fsencode(name) for name in os.listdir(fd))
    finally:
        os.close(fd)


def _fields(path: bytes, st: os.stat_result) -> dict[str, object]:
    kind = _KINDS[stat.S_IFMT(st.st_mode)]
    fields: dict[str, object] = {
        "kind": kind,
        "mode": oct(stat.S_IMODE(st.st_mode)),
        "uid": st.st_uid,
        "gid": st.st_gid,
        "dirlinks" if kind == "dir" else "nlink": st.st_nlink,
        "mtime": stamp(st.st_mtime_ns),
        "blksize": st.st_blksize,
        "xattrs": read_xattrs(path),
    }
    if kind == "file":
        fields["size"] = st.st_size
        if not IN_NAMESPACE:  # where it is any filesystem's, which may allocate ahead
            fields["blocks"] = st.st_blocks
        fields["content"] = _content(path, st.st_size)
    elif kind == "symlink":
        fields["target"] = os.readlink(path)
    elif kind in ("char", "block"):
        fields["rdev"] = st.st_rdev
    return fields


def _content(path: bytes, size: int) -> bytes | str:
    fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
    try:
        if size > 1 << 20:
            return f"{size} bytes"
        data = os.read(fd, 1 << 20)
    finally:
        os.close(fd)
    return data if len(data) <= 64 else hashlib.sha256(data).hexdigest()[:12]


def _short(text: str) -> str:
    """Shorten very long names, which nobody wants in a message or a table."""
    name, dot, field = text.rpartition(".")
    if len(name) <= 40:
        return text
    return f"{name[:8]}({len(os.fsencode(name))}){dot}{field}"
