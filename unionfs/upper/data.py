"""Data that the kernel left in a layer below when it copied a file up (``metacopy``)."""

from __future__ import annotations

import os
import stat

from unionfs.syscalls import xattr
from unionfs.syscalls.copy import KeepGoing, copy_data
from unionfs.union import metacopy
from unionfs.union.node import Node
from unionfs.upper.upper import Upper


def own_data(upper: Upper, node: Node) -> None:
    """Give *node*, which is in the upper, its data if the kernel copied it up without.

    Blocks as ``copyup.copy_up``. Raises OSError.
    """
    if not lacks_data(upper, node):
        return
    copy = DataCopy(upper, node)
    try:
        before = upper.tree.stat(node)
        copy.copy()
        copy.commit(before)
    finally:
        copy.close()


def lacks_data(upper: Upper, node: Node) -> bool:
    """Return whether the data of *node*, which is in the upper, is still in a layer below.

    That may be so of a file without a name, too: somebody has it open.
    """
    may_lack = node.kind == stat.S_IFREG and not node.unmarked
    return may_lack and metacopy.is_metacopy(upper.tree.target(node), upper.layer)


class DataCopy:
    """Giving an upper file that the kernel left without its data (``metacopy``) that data.

    As ``copyup.FileCopy``: ``copy`` may run in a thread, and ``close`` must follow. The mark goes
    last, when the data is safe; until then the file is read from where its data is.
    """

    def __init__(self, upper: Upper, node: Node) -> None:
        """Open both sides. Raises OSError."""
        self.upper = upper
        self.node = node
        self._target = upper.tree.open(node, os.O_RDWR)
        try:
            self._source = metacopy.open_readable(upper.tree, node)
        except BaseException:
            os.close(self._target)
            raise

    def copy(self, keep_going: KeepGoing | None = None) -> None:
        """Copy the content and make it durable, unless volatile. Raises OSError."""
        size = min(os.fstat(self._target).st_size, os.fstat(self._source).st_size)
        copy_data(self._source, self._target, size, keep_going=keep_going)
        if not self.upper.volatile:
            os.fsync(self._target)

    def commit(self, before: os.stat_result) -> None:
        """Say that the file has its data; the times stay those of *before*. Raises OSError."""
        os.utime(self._target, ns=(before.st_atime_ns, before.st_mtime_ns))
        xattr.remove(self._target, self.upper.flavour.metacopy)
        self.node.attr = None

    def take(self) -> int:
        """Hand over the descriptor (read and write) of the file, which has its data now."""
        fd, self._target = self._target, -1
        return fd

    def close(self) -> None:
        """Release the descriptors."""
        os.close(self._source)
        if self._target >= 0:
            os.close(self._target)
