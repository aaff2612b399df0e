"""Whether a copy is what it was copied from, in all that a layer can say of it."""

from __future__ import annotations

import os
import stat

from unionfs.syscalls import xattr
from unionfs.syscalls.compare import same_bytes
from unionfs.union.metacopy import open_readable
from unionfs.union.node import Node
from unionfs.union.tree import Tree


class Same:
    """Compares nodes of the trees *before* and *after*."""

    def __init__(self, before: Tree, after: Tree) -> None:
        self._before = before
        self._after = after

    def files(self, old: Node, new: Node) -> bool:
        """Return whether two files, which are no directories, are the same. Raises OSError."""
        if old.kind != new.kind or not self.metadata(old, new):
            return False
        if old.kind == stat.S_IFLNK:
            return self._before.readlink(old) == self._after.readlink(new)
        return old.kind != stat.S_IFREG or self._content(old, new)

    def metadata(self, old: Node, new: Node) -> bool:
        """Return whether owner, mode, modification time, device and attributes are the same."""
        was, now = self._before.stat(old), self._after.stat(new)
        if _told(was) != _told(now):
            return False
        return _attributes(self._before, old) == _attributes(self._after, new)

    def _content(self, old: Node, new: Node) -> bool:
        if self._before.stat(old).st_size != self._after.stat(new).st_size:
            return False
        one = open_readable(self._before, old)
        try:
            other = open_readable(self._after, new)
            try:
                return same_bytes(one, other)
            finally:
                os.close(other)
        finally:
            os.close(one)


def _told(st: os.stat_result) -> tuple[int, ...]:
    device = st.st_rdev if stat.S_IFMT(st.st_mode) in (stat.S_IFCHR, stat.S_IFBLK) else 0
    return st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, device


def _attributes(tree: Tree, node: Node) -> dict[bytes, bytes]:
    """Return the attributes of *node* as users of a mount call them."""
    names = tree.names_of(node)
    found = {}
    for name, value in xattr.get_all(tree.target(node)).items():
        shown = names.from_disk(name)
        if shown is not None:
            found[shown] = value
    return found
