"""Comparing what ``explain`` says with what a mount shows, path by path."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from tests.support.stacks import Layers
from unionfs.inspect.copies import Copy
from unionfs.inspect.explain import Explanation, explain_in
from unionfs.inspect.stack import Source, Stack, numbered
from unionfs.syscalls.at import RESOLVE_IN_ROOT, openat2


def plain_source(layers: Layers, *, aufs: bool = True) -> Source:
    """What a mount of *layers* in helper form is."""
    return Source(
        "test",
        numbered(layers.lowers, layers.upper),
        upper=layers.upper is not None,
        work=layers.work,
        read_only=layers.upper is None,
        aufs=aufs,
    )


def every_path(*roots: bytes) -> set[bytes]:
    """Every path that one of the directories *roots* has, whiteouts and what is hidden included."""
    found = {b"/"}
    for root in roots:
        for folder, folders, files in os.walk(root):
            inside = folder[len(root) :]
            found.update(inside + b"/" + name for name in folders + files)
    return found


def assert_agrees(source: Source, root: bytes, paths: Iterable[bytes]) -> list[Explanation]:
    """Explain all *paths*; each must be what the mount at *root* shows. Return what was said."""
    fd = os.open(root, os.O_PATH)
    said = []
    try:
        with Stack(source) as stack:
            for path in sorted(paths):
                found = explain_in(stack, path)
                assert _said(found.shown) == _seen(fd, path), (path, found)
                said.append(found)
    finally:
        os.close(fd)
    return said


def _said(copy: Copy | None):
    """What a copy is, with what stands at its path on disk."""
    if copy is None:
        return None
    content = os.open(copy.path, os.O_PATH | os.O_NOFOLLOW)
    try:
        size = 0 if copy.kind == stat.S_IFDIR else copy.size
        owner = (copy.uid, copy.gid)
        # Where a type is written down, a link or a device is a file on the disk.
        data = _data(content) if copy.kind == stat.S_IFREG else None
        return copy.kind, copy.mode, owner, size, copy.mtime_ns, copy.target, data
    finally:
        os.close(content)


def _seen(root: int, path: bytes):
    """What a mount shows; links on the way lead inside it."""
    try:
        fd = openat2(root, path, os.O_PATH | os.O_NOFOLLOW, RESOLVE_IN_ROOT)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        assert error.errno in (errno.ELOOP, errno.ENAMETOOLONG), error
        return None
    try:
        st = os.fstat(fd)
        kind = stat.S_IFMT(st.st_mode)
        size = 0 if kind == stat.S_IFDIR else st.st_size
        target = os.readlink(b"", dir_fd=fd) if kind == stat.S_IFLNK else None
        owner = (st.st_uid, st.st_gid)
        return kind, stat.S_IMODE(st.st_mode), owner, size, st.st_mtime_ns, target, _data(fd)
    finally:
        os.close(fd)


def _data(fd: int) -> bytes | None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return None
    with open(f"/proc/self/fd/{fd}", "rb") as file:
        return file.read()
