"""Applying tars in tests, and looking at what became of them."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from unionfs.ondisk.flavour import Flavour
from unionfs.syscalls import xattr
from unionfs.tarball.apply import Applied, apply_layer
from unionfs.tarball.emit import emit_tree
from unionfs.tarball.limits import Limits

FLAVOUR = Flavour.TRUSTED if os.geteuid() == 0 else Flavour.USER
_DIR = os.O_RDONLY | os.O_DIRECTORY


class Node(NamedTuple):
    """What one name of a tree is. ``links``: all names of the same file; whiteouts have no time."""

    kind: str
    mode: int
    owner: tuple[int, int]
    mtime_ns: int
    content: bytes | int | None
    xattrs: dict[bytes, bytes]
    links: tuple[bytes, ...]


@dataclass
class Layer:
    """A directory that a tar was applied to."""

    path: bytes
    applied: Applied

    def at(self, name: str | bytes) -> bytes:
        return os.path.join(self.path, os.fsencode(name))

    def read(self, name: str | bytes) -> bytes:
        assert stat.S_ISREG(os.lstat(self.at(name)).st_mode)
        with open(self.at(name), "rb") as source:
            return source.read()

    def lstat(self, name: str | bytes) -> os.stat_result:
        return os.lstat(self.at(name))

    def xattr(self, name: str | bytes, key: bytes) -> bytes | None:
        return xattr.get(self.at(name), key)

    def is_opaque(self, name: str | bytes) -> bool:
        return self.xattr(name, FLAVOUR.opaque) == b"y"

    def is_whiteout(self, name: str | bytes) -> bool:
        st = self.lstat(name)
        return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0

    def names(self) -> set[bytes]:
        return set(snapshot(self.path)) - {b"."}


@contextmanager
def directory(path: bytes | Path) -> Iterator[int]:
    fd = os.open(path, _DIR)
    try:
        yield fd
    finally:
        os.close(fd)


def apply(
    tmp_path: Path, data: bytes, limits: Limits | None = None, flavour: Flavour = FLAVOUR
) -> Layer:
    """Apply the tar *data* to a fresh directory ``layer`` under *tmp_path*."""
    dest = tmp_path / "layer"
    dest.mkdir()
    with directory(dest) as fd:
        applied = apply_layer(io.BytesIO(data), fd, flavour=flavour, limits=limits or Limits())
    return Layer(os.fsencode(dest), applied)


def emit(path: bytes | Path, flavour: Flavour = FLAVOUR, mtime_max: int | None = None) -> bytes:
    """Return the tar of the layer directory *path*."""
    out = io.BytesIO()
    with directory(path) as fd:
        emit_tree(fd, out, flavour=flavour, mtime_max=mtime_max)
    return out.getvalue()


def snapshot(path: bytes) -> dict[bytes, Node]:
    """Return every name below *path* (``.`` for itself) with all that can be seen of it."""
    found = {b".": path}
    for top, dirs, files in os.walk(path):
        for name in dirs + files:
            full = os.path.join(top, name)
            found[os.path.relpath(full, path)] = full
    names: dict[tuple[int, int], list[bytes]] = {}
    for name, full in found.items():
        st = os.lstat(full)
        names.setdefault((st.st_dev, st.st_ino), []).append(name)
    return {name: _node(full, names) for name, full in found.items()}


def _node(full: bytes, names: dict[tuple[int, int], list[bytes]]) -> Node:
    st = os.lstat(full)
    content: bytes | int | None = None
    if stat.S_ISREG(st.st_mode):
        with open(full, "rb") as source:
            content = source.read()
    elif stat.S_ISLNK(st.st_mode):
        content = os.readlink(full)
    elif not stat.S_ISDIR(st.st_mode):
        content = st.st_rdev
    return Node(
        kind=stat.filemode(st.st_mode)[0],
        mode=stat.S_IMODE(st.st_mode),
        owner=(st.st_uid, st.st_gid),
        mtime_ns=0 if stat.S_ISCHR(st.st_mode) and not st.st_rdev else st.st_mtime_ns,
        content=content,
        xattrs=xattr.get_all(full),
        links=tuple(sorted(names[st.st_dev, st.st_ino])),
    )
