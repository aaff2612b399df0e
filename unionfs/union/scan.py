"""What one directory of one layer holds."""

from __future__ import annotations

import os
import stat
import sys
from typing import NamedTuple

from unionfs.ondisk.whiteout import AUFS_META, AUFS_OPAQUE, AUFS_PREFIX, is_whiteout
from unionfs.syscalls import xattr
from unionfs.syscalls.at import name_path
from unionfs.union.layer import Part


class Scan(NamedTuple):
    """The entries of one directory: ``kinds`` by name (``S_IF*``), and the names it whites out.

    ``opaque`` is what an AUFS marker file says; attributes are read with the part.
    """

    kinds: dict[bytes, int]
    whiteouts: frozenset[bytes]
    opaque: bool


_ENCODING = sys.getfilesystemencoding()  # what os.fsencode uses, without its checks of type
_NONE: frozenset[bytes] = frozenset()


def scan(part: Part) -> Scan:
    """Read the directory of *part*. Raises OSError."""
    fd = part.fd()
    kinds: dict[bytes, int] = {}
    odd: list[bytes] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            name = entry.name.encode(_ENCODING, "surrogateescape")
            if entry.is_file(follow_symlinks=False):
                kinds[name] = stat.S_IFREG
            elif entry.is_dir(follow_symlinks=False):
                kinds[name] = stat.S_IFDIR
            elif entry.is_symlink():
                kinds[name] = stat.S_IFLNK
            else:
                odd.append(name)
    whiteouts = _sort_out(fd, odd, kinds) if odd else _NONE
    if part.whiteout_files:
        whiteouts |= _attribute_whiteouts(part, kinds)
    if part.layer.aufs:
        return _aufs(kinds, whiteouts)
    return Scan(kinds, whiteouts, False)


def _sort_out(fd: int, odd: list[bytes], kinds: dict[bytes, int]) -> frozenset[bytes]:
    """Give each of the *odd* names (devices, fifos, sockets) its kind; return the whiteouts."""
    whiteouts = []
    for name in odd:
        st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if is_whiteout(st):
            whiteouts.append(name)
        else:
            kinds[name] = stat.S_IFMT(st.st_mode)
    return frozenset(whiteouts)


def _attribute_whiteouts(part: Part, kinds: dict[bytes, int]) -> frozenset[bytes]:
    """Take the regular files that are whiteouts by attribute out of *kinds* and return them."""
    fd = part.fd()
    mark = part.layer.flavour.whiteout
    found = []
    for name, kind in kinds.items():
        if kind == stat.S_IFREG and xattr.get(name_path(fd, name), mark) is not None:
            found.append(name)
    for name in found:
        del kinds[name]
    return frozenset(found)


def _aufs(kinds: dict[bytes, int], whiteouts: frozenset[bytes]) -> Scan:
    """Turn names that begin with ``.wh.`` into what they mean (image-spec layer.md)."""
    opaque = AUFS_OPAQUE in kinds
    marked = [name for name in kinds if name.startswith(AUFS_PREFIX)]
    if not marked:
        return Scan(kinds, whiteouts, False)
    hidden = set(whiteouts)
    for name in marked:
        del kinds[name]
        if not name.startswith(AUFS_META):
            hidden.add(name[len(AUFS_PREFIX) :])
    return Scan(kinds, frozenset(hidden), opaque)
