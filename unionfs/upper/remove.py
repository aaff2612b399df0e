"""Removing names: a whiteout where a lower layer would show through, a plain removal elsewhere.

A file that the kernel still refers to is held by a descriptor (``Node.anchor``): it lives
on without a name, as on any local filesystem.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from unionfs.syscalls.at import RENAME_EXCHANGE, renameat2
from unionfs.union.layer import Part
from unionfs.union.node import Node
from unionfs.upper import index, whiteouts
from unionfs.upper.copyup import ensure_dir, ensure_name
from unionfs.upper.holding import held, is_needed, name_gone, nothing_to_tell
from unionfs.upper.upper import Upper
from unionfs.upper.work import clear_away, clear_folder_away


def unlink(
    upper: Upper,
    parent: Node,
    name: bytes,
    *,
    fd: int = -1,
    done: Callable[[], None] = nothing_to_tell,
) -> Node:
    """Remove *name*, which is no directory, from *parent*; returns the node that had it.

    *fd*: a descriptor of its file in the upper, if there is one. *done* is called when the name is
    gone, before that is accounted for: whoever waits may go on meanwhile.

    A lower file with several names must have been copied up before, so that the count of the
    others is kept. Raises OSError.
    """
    children = upper.tree.load(parent)
    node = children[name]
    covered = node.source is not None or upper.tree.lower_shows(parent, name)
    if node.source is not None:
        whiteouts.put(upper, ensure_dir(upper, parent), name)
    else:
        above = ensure_name(upper, node, parent, name)
        index.pin_to_upper(upper, node)
        with held(upper, node, needed=is_needed(node, parent, name), fd=fd):
            if covered:
                whiteouts.cover(upper, above, name)
            else:
                os.unlink(name, dir_fd=above.fd())
    done()
    del children[name]
    name_gone(upper, node, parent, name)
    return node


def rmdir(
    upper: Upper, parent: Node, name: bytes, *, done: Callable[[], None] = nothing_to_tell
) -> Node:
    """Remove the directory *name* from *parent*; returns its node.

    *done* as for ``unlink``. Raises OSError; ENOTEMPTY if it shows anything.
    """
    children = upper.tree.load(parent)
    node = children[name]
    check_empty(upper, node)
    covered = upper.tree.lower_shows(parent, name)
    above = ensure_dir(upper, parent)
    part = node.upper_part()
    aside = b""
    with held(upper, node):
        if part is None:
            whiteouts.put(upper, above, name)
        elif covered:
            aside = _exchange_for_whiteout(upper, above, name)
        else:
            remove_empty(upper, above.fd(), name)
    done()
    del children[name]
    if part is not None and aside:
        clear_folder_away(upper.work.fd, aside, part.held)
    dir_gone(upper, node)
    return node


def check_empty(upper: Upper, node: Node) -> None:
    """Raise ENOTEMPTY if the directory *node* shows anything."""
    if upper.tree.load(node):
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), os.fsdecode(node.name))


def dir_gone(upper: Upper, node: Node) -> None:
    """Account for the directory *node*, which is held and whose name is gone."""
    part = node.upper_part()
    if part is not None:
        part.drop()
    node.dead = True
    node.children = {}
    node.attr = None
    if not node.nlookup:
        upper.tree.forget(node)


def _exchange_for_whiteout(upper: Upper, above: Part, name: bytes) -> bytes:
    """Put a whiteout in the place of the upper directory *name* in one step.

    Returns what that is called in the work directory then, to be cleared away.
    """
    work = upper.work
    whiteouts.announce(upper, above)
    temporary = work.temporary()
    work.whiteout(work.fd, temporary)
    try:
        renameat2(work.fd, temporary, above.fd(), name, RENAME_EXCHANGE)
    except BaseException:
        clear_away(work.fd, temporary)
        raise
    return temporary


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
