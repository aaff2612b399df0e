"""Whiteouts in the upper, in either form, and the directories that hold them.

Where whiteouts have to be files (``WorkDir.as_files``), they count in a directory marked
``opaque=x`` only, of a layer whose root is marked so (fs/overlayfs/namei.c, ovl_lookup_layer(), and
readdir.c). So the marks come first, and a killed daemon leaves the old state or the new one. They
stay when the last whiteout goes: they cost a look at empty files, and hide nothing.
"""

from __future__ import annotations

import os
import stat

from unionfs.ondisk.whiteout import is_whiteout, is_whiteout_file
from unionfs.syscalls import xattr
from unionfs.syscalls.at import name_path
from unionfs.union.layer import Part
from unionfs.union.scan import scan
from unionfs.upper.upper import Upper


def put(upper: Upper, above: Part, name: bytes) -> None:
    """Put a whiteout at the free name *name* in *above*. Raises OSError."""
    announce(upper, above)
    upper.work.whiteout(above.fd(), name)


def cover(upper: Upper, above: Part, name: bytes) -> None:
    """Replace the file (no directory) *name* in *above* by a whiteout in one step."""
    announce(upper, above)
    upper.work.cover(above.fd(), name)


def announce(upper: Upper, above: Part) -> None:
    """Prepare *above* for a whiteout that comes from the work directory. Raises OSError."""
    upper.work.stock()
    if upper.work.as_files and not above.whiteout_files:
        mark(above)


def mark(above: Part) -> None:
    """Let files with the attribute be whiteouts in *above*, unless it is opaque: then none are."""
    for part in (above.layer.root, above):
        if not part.whiteout_files:
            name = part.layer.flavour.opaque
            value = xattr.get(part.fd(), name)
            if value is None:
                xattr.set_(part.fd(), name, b"x")
            part.whiteout_files = value in (None, b"x")


def is_at(above: Part, name: bytes) -> bool:
    """Return whether *name*, which is there in *above*, is a whiteout. Raises OSError."""
    fd = above.fd()
    st = os.stat(name, dir_fd=fd, follow_symlinks=False)
    if is_whiteout(st):
        return True
    return above.whiteout_files and is_whiteout_file(
        st, name_path(fd, name), above.layer.flavour.whiteout
    )


def files_in(part: Part) -> list[bytes]:
    """Return the whiteouts in *part* that are files: in an opaque directory they would show."""
    if not part.whiteout_files:
        return []
    fd = part.fd()
    return [
        name
        for name in scan(part).whiteouts
        if stat.S_ISREG(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    ]


def make_opaque(part: Part) -> None:
    """Let nothing below show through *part*, which has nothing below it now. Raises OSError."""
    for name in files_in(part):
        os.unlink(name, dir_fd=part.fd())
    xattr.set_(part.fd(), part.layer.flavour.opaque, b"y")
    part.whiteout_files = False
