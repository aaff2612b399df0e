"""Files that chattr(1) protects from changes: immutable ones, and those that only grow.

A lower file's inode says it, and a file in the upper has a mark (``ondisk.protattr``), or an inode
that somebody protected without a mount. FUSE's inodes
have no such flags for the kernel to look at, so it is we who refuse; what each call is refused
stands in linux/fs/namei.c (may_delete()), fs/attr.c (may_setattr()), fs/xattr.c and fs/open.c.
"""

from __future__ import annotations

import errno
import os
import stat

from unionfs.ondisk import protattr
from unionfs.syscalls import flags, xattr
from unionfs.syscalls.flags import IMMUTABLE
from unionfs.union.node import UNKNOWN, Node
from unionfs.union.tree import Tree


def of(tree: Tree, node: Node) -> int:
    """Return which of IMMUTABLE and APPEND *node* has. Remembered. Raises OSError."""
    if node.protection == UNKNOWN:
        node.protection = _look(tree, node)
    return node.protection


def _look(tree: Tree, node: Node) -> int:
    if node.anchor >= 0:
        found = flags.protecting(node.anchor)
    elif node.kind == stat.S_IFDIR:
        found = flags.protecting(tree.ready(node)[0].fd())
    else:
        found = flags.protecting(*tree.place(node))
    if not node.in_upper:
        return found
    try:
        mark = xattr.get(tree.target(node), tree.layers[0].flavour.protattr)
    except PermissionError:
        return found  # of a file that he may not read, an ordinary user is not told
    return found | protattr.decode(mark)


def check_change(tree: Tree, node: Node, *, appends: bool = False) -> None:
    """Refuse a change of *node* that is protected; *appends*: one that only adds to its end.

    Raises PermissionError (EPERM).
    """
    found = node.protection and of(tree, node)
    if found & IMMUTABLE or (found and not appends):
        raise not_permitted()


def check_write(tree: Tree, node: Node, offset: int) -> None:
    """Refuse to write at *offset* (bytes) to *node* that is protected.

    Raises PermissionError (EPERM).
    """
    if node.protection and of(tree, node):
        check_change(tree, node, appends=offset == tree.stat(node).st_size)


def check_gets(tree: Tree, parent: Node) -> None:
    """Refuse a new name in *parent* where that is immutable. Raises PermissionError (EPERM)."""
    if parent.protection and of(tree, parent) & IMMUTABLE:
        raise not_permitted()


def check_loses(tree: Tree, parent: Node, node: Node) -> None:
    """Refuse to take a name in *parent* from *node* where either is protected.

    Raises PermissionError (EPERM).
    """
    if parent.protection or node.protection:
        check_change(tree, parent)
        check_change(tree, node)


def not_permitted() -> PermissionError:
    """Return the error that says so."""
    return PermissionError(errno.EPERM, os.strerror(errno.EPERM))
