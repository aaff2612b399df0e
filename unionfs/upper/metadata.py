"""Carrying a file's owner, mode, attributes and times over to its copy."""

from __future__ import annotations

import errno
import os
import stat

from unionfs.ondisk import override, protattr
from unionfs.ondisk.override import AttributeNames
from unionfs.syscalls import flags, xattr
from unionfs.union.layer import Layer
from unionfs.upper import overrides
from unionfs.upper.upper import Upper

# A label of the source's that this process may not set on the copy is left to the copy's
# filesystem, as ovl_copy_xattr() does for security.* and for what an upper cannot keep.
_MAY_FAIL = frozenset((errno.EOPNOTSUPP, errno.EPERM))
_MUST_NOT_FAIL = (b"system.posix_acl_", b"security.capability")


def copy_xattrs(
    source: int | bytes, names: AttributeNames, target: int | bytes, own_names: AttributeNames
) -> None:
    """Copy all extended attributes but the driver's own from *source* to *target*.

    *names* is what they are called there, *own_names* what they are to be called here.

    POSIX ACLs and capabilities go along as the attributes they are. Raises OSError; a copy that
    cannot keep an ACL, a capability or a user attribute fails rather than lose it silently.
    """
    for name, value in xattr.get_all(source).items():
        shown = names.from_disk(name)
        if shown is None or own_names.is_reserved(shown):
            continue
        try:
            xattr.set_(target, own_names.to_disk(shown), value)
        except OSError as error:
            if error.errno not in _MAY_FAIL or shown.startswith(_MUST_NOT_FAIL):
                raise
            if shown.startswith(b"user."):
                raise


def copy_to_fd(
    upper: Upper, source: int | bytes, layer: Layer, fd: int, st: os.stat_result
) -> None:
    """Give the file or directory *fd* of the upper the owner, attributes, mode and times of *st*.

    *source*, in *layer*, is where the attributes come from. Where the upper writes owners down, it
    gets the one that is written down there: what is shown may say less (``syscalls.idmap``). The
    order matters: changing the owner clears set-id bits and capabilities, so it comes first. Raises
    OSError.
    """
    names = layer.names
    if upper.override is not None:
        copy_xattrs(source, names, fd, upper.names)
        kept = override.read(source, layer.override) if layer.override is not None else None
        overrides.write(upper, fd, override.of(override.applied(st, kept) if kept else st))
    else:
        mine = os.fstat(fd)
        if upper.gives_owners and (mine.st_uid, mine.st_gid) != (st.st_uid, st.st_gid):
            os.fchown(fd, st.st_uid, st.st_gid)
        copy_xattrs(source, names, fd, upper.names)
        os.fchmod(fd, stat.S_IMODE(st.st_mode))
    os.utime(fd, ns=(st.st_atime_ns, st.st_mtime_ns))


def copy_flags(source: int, fd: int) -> None:
    """Give the file or directory *fd* of the upper the flags that *source* has (both open).

    But for those that protect it, for which it gets a mark (``mark_protected``). Raises OSError.
    """
    flags.describe(fd, flags.describing(source))


def mark_protected(upper: Upper, target: int | bytes, protection: int) -> None:
    """Write down that the upper file *target* is immutable or append-only.

    Where it takes such marks, as in ovl_copy_fileattr(). Raises OSError.
    """
    if not protection:
        return
    try:
        xattr.set_(target, upper.flavour.protattr, protattr.encode(protection))
    except OSError as error:
        if error.errno not in _MAY_FAIL:
            raise
