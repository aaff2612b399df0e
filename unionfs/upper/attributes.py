"""Changing what a file's inode says: mode, owner, times, size, extended attributes.

The node must be in the upper (``copyup``). A file is reached by its directory's descriptor and its
name, or by its anchor; never through a symbolic link.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial

from unionfs.syscalls import xattr
from unionfs.syscalls.at import proc_path
from unionfs.syscalls.capability import CAPABILITY
from unionfs.union.node import Node
from unionfs.upper import overrides
from unionfs.upper.upper import Upper

IsMember = overrides.IsMember


def chmod(upper: Upper, node: Node, mode: int) -> None:
    """Set the permissions *mode* (octal, with set-id and sticky bits). Raises OSError."""
    node.attr = None
    if upper.override is not None and overrides.concerns(upper, node):
        overrides.chmod(upper, node, mode)
    elif node.anchor >= 0:
        os.chmod(proc_path(node.anchor), mode)
    elif node.is_dir:
        os.fchmod(upper.part(node).fd(), mode)
    else:
        directory, name = upper.tree.place(node)
        os.chmod(name, mode, dir_fd=directory)


@contextlib.contextmanager
def mode_within(upper: Upper, node: Node, mode: int, was: int) -> Iterator[None]:
    """Give *node* the permissions *mode*; what *was* (both octal) if what is within fails.

    For changes of which the mode is one half; nothing may await within. Raises OSError.
    """
    if mode == was:
        yield
        return
    chmod(upper, node, mode)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            chmod(upper, node, was)
        raise


def chown(upper: Upper, node: Node, uid: int, gid: int) -> None:
    """Set owner and group; -1 leaves one as it is. Raises OSError."""
    node.attr = None
    if upper.override is not None and overrides.concerns(upper, node):
        overrides.chown(upper, node, uid, gid)
    elif node.anchor >= 0:
        os.chown(proc_path(node.anchor), uid, gid)
    elif node.is_dir:
        os.fchown(upper.part(node).fd(), uid, gid)
    else:
        directory, name = upper.tree.place(node)
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)


def utime(upper: Upper, node: Node, atime_ns: int, mtime_ns: int) -> None:
    """Set access and modification time (ns since the epoch). Raises OSError."""
    _utime(upper, node, partial(os.utime, ns=(atime_ns, mtime_ns)))


def touch(upper: Upper, node: Node) -> None:
    """Set both times to now, by the clock of the upper's filesystem. Raises OSError.

    That is what a file that only grows allows, unlike any other time.
    """
    _utime(upper, node, os.utime)


def _utime(upper: Upper, node: Node, utime: Callable[..., None]) -> None:
    node.attr = None
    if node.anchor >= 0:
        utime(proc_path(node.anchor))
    elif node.is_dir:
        utime(upper.part(node).fd())
    else:
        directory, name = upper.tree.place(node)
        utime(name, dir_fd=directory, follow_symlinks=False)


def set_xattr(upper: Upper, node: Node, name: bytes, value: bytes, flags: int = 0) -> None:
    """Set the attribute that users of the mount call *name*. Raises OSError."""
    node.attr = None
    if upper.override is not None and overrides.concerns(upper, node):
        overrides.set_xattr(upper, node, name, value, flags)
    else:
        xattr.set_(upper.tree.target(node), upper.names.to_disk(name), value, flags)


def remove_xattr(upper: Upper, node: Node, name: bytes) -> None:
    """Remove the attribute that users of the mount call *name*. Raises OSError (ENODATA)."""
    node.attr = None
    xattr.remove(upper.tree.target(node), upper.names.to_disk(name))


def truncate(
    upper: Upper, fd: int, size: int, *, kill: IsMember | None, named: bool = False
) -> None:
    """Make the file *fd* *size* bytes long, and with *kill* ``drop_set_id``.

    *named*: as truncate(2), by which a filesystem may leave the times of a file that has that size.
    The content goes last, when nothing can fail any more. Raises OSError; content and mode are as
    they were then. (A capability is not: the kernel has taken that before it asks us.)
    """
    mode = stat.S_IMODE(os.fstat(fd).st_mode) if kill is not None else None
    kept = overrides.kept_as(upper, fd) if kill is not None else None
    drop_set_id(upper, fd, kill)
    try:
        if named:
            os.truncate(proc_path(fd), size)
        else:
            os.ftruncate(fd, size)
    except OSError:
        with contextlib.suppress(OSError):
            if kept is not None:
                overrides.write(upper, fd, kept)
            elif mode is not None:
                os.fchmod(fd, mode)
        raise


def drop_set_id(upper: Upper, fd: int, is_member: IsMember | None) -> bool:
    """Remove the set-id bits of a file that somebody without CAP_FSETID changes (write(2)).

    Returns whether there was one to remove. *is_member* says whether that one is in the file's
    group; None: who changes it may keep them. Capabilities are removed by the upper's filesystem,
    whoever writes, if that keeps them. Raises OSError.
    """
    if upper.override is not None:
        took = overrides.privileges_go(upper, fd, is_member)
        if took is not None:
            return took
    if is_member is None:
        return False
    st = os.fstat(fd)
    kept = without_set_id(st, is_member)
    if kept == stat.S_IMODE(st.st_mode):
        return False
    os.fchmod(fd, kept)
    return True


def write_back(fd: int, data: bytes | memoryview, offset: int) -> int:
    """As pwrite(2), of what a mapping holds: mmap(2) takes no privileges from the file.

    What the kernel removes at a write, capabilities and in a user namespace set-id bits, is put
    back. Raises OSError.
    """
    capability, mode = xattr.get_valid(fd, CAPABILITY), stat.S_IMODE(os.fstat(fd).st_mode)
    try:
        return os.pwrite(fd, data, offset)
    finally:  # a write that fails may have removed them first
        with contextlib.suppress(OSError):  # what counts is whether the data is written
            if mode != stat.S_IMODE(os.fstat(fd).st_mode):
                os.fchmod(fd, mode)
            if capability is not None:
                xattr.set_(fd, CAPABILITY, capability)


def without_set_id(st: os.stat_result, is_member: IsMember) -> int:
    """Return the permissions of *st* without the bits that ``drop_set_id`` removes."""
    return overrides.without_set_id(st.st_mode, (st.st_uid, st.st_gid), is_member)
