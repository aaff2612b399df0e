"""What one directory of one layer holds."""

from __future__ import annotations

import os
import stat
import sys
from typing import NamedTuple

from unionfs.ondisk.override import Spelling, read
from unionfs.ondisk.whiteout import AUFS_META, AUFS_OPAQUE, AUFS_PREFIX, is_whiteout
from unionfs.syscalls import xattr
from unionfs.syscalls.at import name_path
from unionfs.union.layer import Part


class Scan(NamedTuple):
    """The entries of one directory and the names it whites out.

    ``entries`` has, by name, the kind (``S_IF*``) in the low 16 bits and the inode number (d_ino)
    above: two numbers in one object, of which there is one per file. It is 0 in a directory on
    another filesystem than its layer's root, a mount or a subvolume of btrfs: the number of a file
    there may be another's in the layer. ``opaque`` is what an AUFS marker file says; attributes are
    read with the part.
    """

    entries: dict[bytes, int]
    whiteouts: frozenset[bytes]
    opaque: bool


class Listed(NamedTuple):
    """What shows in a directory that the upper does not have, as somebody has read it.

    ``entries`` as those of a ``Scan``. ``layers``: which layers have each of them, as a set of
    bits, of which bit *n* is the layer of number *n*; None: the directory is one layer's.
    """

    entries: dict[bytes, int]
    layers: list[int] | None


KIND = 0xFFFF
NUMBER_SHIFT = 16
_ENCODING = sys.getfilesystemencoding()  # what os.fsencode uses, without its checks of type
_FILE, _DIR, _LINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK
NO_WHITEOUTS: frozenset[bytes] = frozenset()


def scan(part: Part) -> Scan:
    """Read the directory of *part*. Raises OSError."""
    fd = part.fd()
    os.lseek(fd, 0, os.SEEK_SET)  # as in ``syscalls.at.names_in``
    entries: dict[bytes, int] = {}
    odd: list[bytes] = []
    kept = -1 if os.fstat(fd).st_dev == part.layer.device else KIND
    with os.scandir(fd) as found:
        for entry in found:
            name = entry.name.encode(_ENCODING, "surrogateescape")
            if entry.is_file(follow_symlinks=False):
                entries[name] = entry.inode() << NUMBER_SHIFT & kept | _FILE
            elif entry.is_dir(follow_symlinks=False):
                entries[name] = entry.inode() << NUMBER_SHIFT & kept | _DIR
            elif entry.is_symlink():
                entries[name] = entry.inode() << NUMBER_SHIFT & kept | _LINK
            else:
                odd.append(name)
    whiteouts = _sort_out(fd, odd, entries, kept) if odd else NO_WHITEOUTS
    if part.whiteout_files:
        whiteouts |= _attribute_whiteouts(part, entries)
    if part.layer.override is not None:
        _retype(fd, entries, part.layer.override)
    if part.layer.aufs:
        return _aufs(entries, whiteouts)
    return Scan(entries, whiteouts, False)


def holds(fd: int, name: bytes) -> bool:
    """Return whether something in the directory *fd* is called *name*, if that can be said."""
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError:
        return False
    return True


def _sort_out(fd: int, odd: list[bytes], entries: dict[bytes, int], kept: int) -> frozenset[bytes]:
    """Put the *odd* names (devices, fifos, sockets) among the *entries*; return the whiteouts.

    *kept*: the bits of an entry to be kept.
    """
    whiteouts = []
    for name in odd:
        st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if is_whiteout(st):
            whiteouts.append(name)
        else:
            entries[name] = st.st_ino << NUMBER_SHIFT & kept | stat.S_IFMT(st.st_mode)
    return frozenset(whiteouts)


def _attribute_whiteouts(part: Part, entries: dict[bytes, int]) -> frozenset[bytes]:
    """Take the regular files that are whiteouts by attribute out of *entries* and return them."""
    fd = part.fd()
    mark = part.layer.flavour.whiteout
    found = []
    for name, entry in entries.items():
        if entry & KIND != _FILE or xattr.get(name_path(fd, name), mark) is None:
            continue
        if not os.stat(name, dir_fd=fd, follow_symlinks=False).st_size:
            found.append(name)  # one with content is a file, as it is to the kernel
    for name in found:
        del entries[name]
    return frozenset(found)


def _retype(fd: int, entries: dict[bytes, int], spelling: Spelling) -> None:
    """Give those regular files in *entries* that stand for something else the kind they show."""
    for name, entry in entries.items():
        if entry & KIND == _FILE:
            value = read(name_path(fd, name), spelling)
            if value is not None and value.kind not in (0, _FILE, _DIR):
                entries[name] = entry & ~KIND | value.kind


def _aufs(entries: dict[bytes, int], whiteouts: frozenset[bytes]) -> Scan:
    """Turn names that begin with ``.wh.`` into what they mean (image-spec layer.md)."""
    opaque = AUFS_OPAQUE in entries
    marked = [name for name in entries if name.startswith(AUFS_PREFIX)]
    if not marked:
        return Scan(entries, whiteouts, False)
    hidden = set(whiteouts)
    for name in marked:
        del entries[name]
        if not name.startswith(AUFS_META):
            hidden.add(name[len(AUFS_PREFIX) :])
    return Scan(entries, frozenset(hidden), opaque)
