"""Changing what a file's inode says: mode, owner, times, size, extended attributes.

The node must be in the upper (``copyup``). A file is reached by its directory's descriptor and its
name, or by its anchor; never through a symbolic link.
"""

from __future__ import annotations

import os
import stat

from unionfs.syscalls import xattr
from unionfs.syscalls.at import proc_path
from unionfs.union.node import Node
from unionfs.upper import overrides
from unionfs.upper.upper import Upper


def chmod(upper: Upper, node: Node, mode: int) -> None:
    """Set the permissions *mode* (octal, with set-id and sticky bits). Raises OSError."""
    node.attr = None
    if upper.override is not None:
        overrides.chmod(upper, node, mode)
    elif node.anchor >= 0:
        os.chmod(proc_path(node.anchor), mode)
    elif node.is_dir:
        os.fchmod(upper.part(node).fd(), mode)
    else:
        directory, name = upper.tree.place(node)
        os.chmod(name, mode, dir_fd=directory)


def chown(upper: Upper, node: Node, uid: int, gid: int) -> None:
    """Set owner and group; -1 leaves one as it is. Raises OSError."""
    node.attr = None
    if upper.override is not None:
        overrides.chown(upper, node, uid, gid)
    elif node.anchor >= 0:
        os.chown(proc_path(node.anchor), uid, gid)
    elif node.is_dir:
        os.fchown(upper.part(node).fd(), uid, gid)
    else:
        directory, name = upper.tree.place(node)
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)


def privileges_go(upper: Upper, fd: int, *, set_id: bool) -> None:
    """Take from the file *fd* what it may not keep when it is changed (write(2)).

    Set-id bits where *set_id* says that somebody without CAP_FSETID changes it. Capabilities are
    removed by the upper's filesystem, whoever writes, if it is that which keeps them. Raises
    OSError.
    """
    if upper.override is not None:
        overrides.privileges_go(upper, fd, set_id=set_id)
    elif set_id:
        mode = os.fstat(fd).st_mode
        kept = overrides.without_set_id(mode)
        if kept != mode:
            os.fchmod(fd, stat.S_IMODE(kept))


def utime(upper: Upper, node: Node, atime_ns: int, mtime_ns: int) -> None:
    """Set access and modification time (ns since the epoch). Raises OSError."""
    node.attr = None
    times = (atime_ns, mtime_ns)
    if node.anchor >= 0:
        os.utime(proc_path(node.anchor), ns=times)
    elif node.is_dir:
        os.utime(upper.part(node).fd(), ns=times)
    else:
        directory, name = upper.tree.place(node)
        os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)


def set_xattr(upper: Upper, node: Node, name: bytes, value: bytes, flags: int = 0) -> None:
    """Set the attribute that users of the mount call *name*. Raises OSError."""
    node.attr = None
    if upper.override is not None:
        overrides.set_xattr(upper, node, name, value, flags)
    else:
        xattr.set_(upper.tree.target(node), upper.names.to_disk(name), value, flags)


def remove_xattr(upper: Upper, node: Node, name: bytes) -> None:
    """Remove the attribute that users of the mount call *name*. Raises OSError (ENODATA)."""
    node.attr = None
    xattr.remove(upper.tree.target(node), upper.names.to_disk(name))
