"""What a directory's attributes say about the layers below it."""

from __future__ import annotations

import os
from typing import NamedTuple

from unionfs.errors import RefusedError
from unionfs.ondisk.flavour import FUSE_OVERLAYFS_PREFIX, Flavour
from unionfs.syscalls import xattr

FUSE_OVERLAYFS_OPAQUE = FUSE_OVERLAYFS_PREFIX + b"opaque"


class UnknownMarkError(RefusedError):
    """A layer carries an overlayfs attribute whose meaning we do not know."""


class DirMarks(NamedTuple):
    """Marks of one directory of one layer.

    ``opaque``: nothing below shows through. ``whiteout_files``: it may hold whiteouts as
    attributes (``opaque=x``). ``impure``: it may hold files with an origin. ``redirect``: where
    its lower parts are, if not at its own path: absolute from the union's root (leading slash) or
    a name in the same parent.
    """

    opaque: bool
    whiteout_files: bool
    impure: bool
    redirect: bytes | None


NO_MARKS = DirMarks(False, False, False, None)


def read_dir_marks(target: int | bytes, flavour: Flavour) -> DirMarks:
    """Return the marks of the directory *target* (a descriptor or a path that is not followed).

    One listxattr(2) answers for the usual directory, which has none. Raises OSError, and
    UnknownMarkError for a redirect that is not a path, and for a mark whose meaning is not known:
    to go on without it might be to show what is not there.
    """
    names = xattr.names(target)
    if not names:
        return NO_MARKS
    opaque = whiteout_files = impure = False
    redirect = None
    for name in names:
        if name == flavour.opaque:
            value = xattr.get(target, name)
            opaque = opaque or value == b"y"
            whiteout_files = value == b"x"
        elif name == flavour.impure:
            impure = xattr.get(target, name) == b"y"
        elif name == flavour.redirect:
            redirect = checked_redirect(xattr.get(target, name))
        elif name == FUSE_OVERLAYFS_OPAQUE:
            opaque = opaque or xattr.get(target, name) == b"y"
        elif flavour.is_unknown(name):
            raise UnknownMarkError(f"the meaning of the mark {os.fsdecode(name)} is not known")
    return DirMarks(opaque, whiteout_files, impure, redirect)


def checked_redirect(redirect: bytes | None) -> bytes | None:
    """Return *redirect*, a directory's or a metacopy's, if it is a clean path or None.

    As ovl_get_redirect_xattr() demands: any other could lead out of the layers. Raises
    UnknownMarkError.
    """
    if redirect is None:
        return None
    parts = redirect.removeprefix(b"/").split(b"/")
    relative_with_slash = not redirect.startswith(b"/") and len(parts) > 1
    if relative_with_slash or any(part in (b"", b".", b"..") for part in parts):
        raise UnknownMarkError(f"not a redirect that overlayfs would follow: {redirect!r}")
    return redirect
