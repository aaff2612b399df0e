"""Removing names: a whiteout where a lower layer would show through, a plain removal elsewhere.

A file that the kernel still refers to is held by an O_PATH descriptor (``Node.anchor``): it lives
on without a name, as on any local filesystem.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from unionfs.syscalls.at import RENAME_EXCHANGE, renameat2
from unionfs.union.node import Node
from unionfs.upper import index
from unionfs.upper.copyup import ensure_dir, ensure_name
from unionfs.upper.identity import settle
from unionfs.upper.upper import Upper
from unionfs.upper.work import clear_away

_HOLD = os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW


def unlink(upper: Upper, parent: Node, name: bytes) -> Node:
    """Remove *name*, which is no directory, from *parent*; returns the node that had it.

    A lower file with several names must have been copied up before, so that the count of the
    others is kept. Raises OSError.
    """
    children = upper.tree.load(parent)
    node = children[name]
    covered = node.source is not None or upper.tree.lower_shows(parent, name)
    if node.source is not None:
        above = ensure_dir(upper, parent)
        with held(upper, node):
            upper.work.whiteout(above.fd(), name)
    else:
        above = ensure_name(upper, node, parent, name)
        index.pin_to_upper(upper, node)
        index.keep(upper, node)
        known_here = node.parent is parent and node.name == name
        with held(upper, node, needed=bool(node.nlink) or known_here):
            if covered:
                upper.work.cover(above.fd(), name)
            else:
                os.unlink(name, dir_fd=above.fd())
    del children[name]
    name_gone(upper, node)
    return node


@contextmanager
def held(upper: Upper, node: Node, *, needed: bool = True) -> Iterator[None]:
    """Keep hold of the file of *node* beyond its name, which goes in the block.

    Where the block fails the name stays, and the hold goes again: it may be on a lower file, and
    would reach that even after a copy-up. Raises OSError.
    """
    if node.anchor >= 0 or not needed:
        yield
        return
    if node.is_dir:
        node.anchor = os.open(b".", _HOLD, dir_fd=upper.tree.ready(node)[0].fd())
    else:
        node.anchor = upper.tree.open(node, os.O_PATH)
    try:
        yield
    except BaseException:
        os.close(node.anchor)
        node.anchor = -1
        raise


def name_gone(upper: Upper, node: Node) -> None:
    """Account for one name less of *node*, whose directory entry is gone."""
    node.attr = None
    if node.nlink:
        node.nlink -= 1
        node.dead = node.nlink == 0
        if node.dead:
            index.drop_if_orphan(upper, node)
    elif node.anchor >= 0:
        node.dead = node.source is not None or _is_nameless(node.anchor)
    if not node.nlookup and node.anchor >= 0 and (node.dead or node.source is not None):
        upper.tree.forget(node)
    elif node.also is not None:
        try:
            settle(*node.also, node)  # link(2) and unlink(2) must not cost a descriptor each
        except OSError:
            pass  # the hold is as good, and the name is gone all the same


def _is_nameless(fd: int) -> bool:
    try:
        return os.stat(fd).st_nlink == 0
    except OSError:
        return False  # the name is gone all the same; its file is let go at the end of the mount


def rmdir(upper: Upper, parent: Node, name: bytes) -> Node:
    """Remove the directory *name* from *parent*; returns its node.

    Raises OSError; ENOTEMPTY if it shows anything.
    """
    children = upper.tree.load(parent)
    node = children[name]
    check_empty(upper, node)
    covered = upper.tree.lower_shows(parent, name)
    above = ensure_dir(upper, parent)
    part = node.upper_part()
    with held(upper, node):
        if part is None:
            upper.work.whiteout(above.fd(), name)
        elif covered:
            _exchange_for_whiteout(upper, above.fd(), name)
        else:
            remove_empty(upper, above.fd(), name)
    if part is not None:
        part.drop()
    del children[name]
    dir_gone(upper, node)
    return node


def check_empty(upper: Upper, node: Node) -> None:
    """Raise ENOTEMPTY if the directory *node* shows anything."""
    if upper.tree.load(node):
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), os.fsdecode(node.name))


def dir_gone(upper: Upper, node: Node) -> None:
    """Account for the directory *node*, which is held and whose name is gone."""
    node.dead = True
    node.children = {}
    node.attr = None
    if not node.nlookup:
        upper.tree.forget(node)


def _exchange_for_whiteout(upper: Upper, above: int, name: bytes) -> None:
    """Put a whiteout in the place of the upper directory *name* in one step, then clear it away."""
    work = upper.work
    temporary = work.temporary()
    work.whiteout(work.fd, temporary)
    try:
        renameat2(work.fd, temporary, above, name, RENAME_EXCHANGE)
    finally:
        clear_away(work.fd, temporary)


def remove_empty(upper: Upper, above: int, name: bytes) -> None:
    """Remove the upper directory *name*, which shows nothing but may hold whiteouts."""
    try:
        os.rmdir(name, dir_fd=above)
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    temporary = upper.work.temporary()
    os.rename(name, temporary, src_dir_fd=above, dst_dir_fd=upper.work.fd)
    clear_away(upper.work.fd, temporary)
