"""The copies of one file in the layers: what each is, and whether its content is what shows."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unionfs.inspect.stack import LayerName, Stack
from unionfs.ondisk.origin import Origin, filesystem_uuid
from unionfs.syscalls.at import name_path
from unionfs.syscalls.compare import same_bytes
from unionfs.syscalls.handle import handle_of
from unionfs.union.layer import Part
from unionfs.union.metacopy import is_metacopy, open_readable
from unionfs.union.node import Node
from unionfs.union.reasons import Hidden, How, Said, Says


@dataclass(frozen=True, slots=True)
class Blame:
    """What hides something: a layer, how, and the path in the merged tree at which it does."""

    layer: LayerName
    how: How
    path: bytes


@dataclass(frozen=True, slots=True)
class Copy:
    """What one layer has at a path, shown as a mount would show it.

    ``path`` is on disk. ``kind`` is an ``S_IF*`` value, ``mode`` the permission bits, ``size`` and
    ``disk`` bytes (as stat says, and allocated). ``target`` is a symbolic link's. ``counts``: it
    shows, or is part of a merged directory that does; else ``hidden`` says by what it does not.
    ``same``: whether content and kind are those of the copy that shows; None: not comparable.
    """

    layer: LayerName
    path: bytes
    kind: int
    mode: int
    uid: int
    gid: int
    size: int
    disk: int
    links: int
    mtime_ns: int
    target: bytes | None = None
    counts: bool = False
    hidden: Blame | None = None
    same: bool | None = None


def blame_of(stack: Stack, hidden: Hidden | None) -> Blame | None:
    """Return *hidden* in people's names."""
    if hidden is None:
        return None
    return Blame(stack.name_of(hidden.layer), hidden.how, hidden.path)


def on_disk(part: Part, name: bytes = b"") -> bytes:
    """Return the path on disk of *name* in *part*, or of *part* itself."""
    inside = part.path().rstrip(b"/") + (b"/" + name if name else b"")
    return part.layer.path.rstrip(b"/") + inside if inside else part.layer.path


def copy_of(stack: Stack, said: Said) -> Copy | None:
    """Return what the layer of *said* has, None if that is nothing. Raises OSError."""
    if said.merged is not None:
        return _of_directory(stack, said, said.merged)
    if said.says is not Says.HAS or said.part is None:
        return None
    if said.kind == stat.S_IFDIR:
        return _of_directory(stack, said, Part(said.layer, said.part, said.name, stack.tree.pool))
    st = stack.tree.stat_at(said.part, said.name)
    is_link = said.kind == stat.S_IFLNK
    target = stack.tree.readlink_at(said.part, said.name) if is_link else None
    return _copy(stack, said, on_disk(said.part, said.name), st, target)


def _of_directory(stack: Stack, said: Said, part: Part) -> Copy:
    return _copy(stack, said, on_disk(part), stack.tree.stat_of(part), None)


def _copy(stack: Stack, said: Said, path: bytes, st: os.stat_result, target: bytes | None) -> Copy:
    return Copy(
        layer=stack.name_of(said.layer),
        path=path,
        target=target,
        counts=said.counts,
        hidden=None if said.counts else blame_of(stack, said.hidden),
        **_fields(st),
    )


def _fields(st: os.stat_result) -> dict[str, Any]:
    return {
        "kind": stat.S_IFMT(st.st_mode),
        "mode": stat.S_IMODE(st.st_mode),
        "uid": st.st_uid,
        "gid": st.st_gid,
        "size": st.st_size,
        "disk": st.st_blocks * 512,
        "links": st.st_nlink,
        "mtime_ns": st.st_mtime_ns,
    }


def indexed_copy(stack: Stack, said: Said) -> Copy | None:
    """Return the copy that shows in place of a lower file which was copied up under another name.

    All names of such a file lead to one copy in the index of the work directory
    (``upper.index``). None where there is none. Raises OSError.
    """
    work = stack.source.work
    if work is None or said.part is None or said.kind == stat.S_IFDIR or said.layer.number == 0:
        return None
    if os.stat(said.name, dir_fd=said.part.fd(), follow_symlinks=False).st_nlink == 1:
        return None
    uuid = filesystem_uuid(said.layer.root.fd())
    try:
        handle = handle_of(said.part.fd(), said.name)
        if uuid is None:
            return None
        path = work + b"/index/" + Origin(uuid, handle).index_name()
        st = os.stat(path, follow_symlinks=False)
    except OSError:
        return None  # no handles on that filesystem, no index, or not in it
    target = os.readlink(path) if stat.S_ISLNK(st.st_mode) else None
    return Copy(stack.source.layers[0], path, target=target, counts=True, **_fields(st))


def comparer(stack: Stack, node: Node, shown: Copy) -> Callable[[Copy], bool | None]:
    """Return a function that says whether a copy has the content of *shown*, the copy of *node*."""

    def same(copy: Copy) -> bool | None:
        if copy.kind != shown.kind:
            return False
        if copy.kind == stat.S_IFLNK:
            return copy.target == shown.target
        if copy.kind != stat.S_IFREG:
            return None
        return copy.size == shown.size and _same_content(stack, node, shown, copy)

    return same


def _same_content(stack: Stack, node: Node, shown: Copy, copy: Copy) -> bool | None:
    """Compare byte by byte; None where a copy's data is not in it, or cannot be read."""
    layer = next(one for one in stack.tree.layers if stack.name_of(one) == copy.layer)
    opened = []
    try:
        opened.append(_open(shown.path) if _in_index(stack, shown) else _shown(stack, node))
        opened.append(_open(copy.path))
        if is_metacopy(opened[1], layer):
            return None
        return same_bytes(*opened)
    except OSError:
        return None
    finally:
        for fd in opened:
            os.close(fd)


def _in_index(stack: Stack, shown: Copy) -> bool:
    work = stack.source.work
    return work is not None and shown.path.startswith(work + b"/index/")


def _shown(stack: Stack, node: Node) -> int:
    return open_readable(stack.tree, node)


def _open(path: bytes) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def is_without_data(stack: Stack, said: Said) -> bool:
    """Return whether the file of *said* is a metacopy: its data is in a layer below."""
    if said.part is None or said.kind != stat.S_IFREG:
        return False
    return is_metacopy(name_path(said.part.fd(), said.name), said.layer)
