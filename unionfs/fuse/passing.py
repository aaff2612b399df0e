"""Files that the kernel reads and writes by itself, without a request (``data=passthrough``).

An open file cannot be moved to another one: who had it open would go on in the old. So it is for
files that stay the one that they are for as long as they are open: all of a read-only mount, and of
others those in the upper. What is in a lower layer goes through the page cache of its one node,
where readers get to see a copy-up. Rejected: a second node for the copy, which the kernel's ESTALE
would lead writers to. Locks and inotify(7) would be split between the two, and old descriptors,
like those of no local filesystem, would never see what is written.

An inode's openers have to be alike (fs/fuse/iomode.c), so the first decides for all. A map is none
of them: it goes over to the upper's file (fs/backing-file.c), and who closes what he mapped is
heard to have left. ``Files.close`` finds out whether he did.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from unionfs.errors import ConflictError, UnavailableError
from unionfs.fuse import native
from unionfs.syscalls.capability import CAP_SYS_ADMIN, has_capability, in_initial_user_namespace
from unionfs.syscalls.flags import APPEND
from unionfs.syscalls.release import kernel_release
from unionfs.union import protection
from unionfs.union.node import Node
from unionfs.upper.data import lacks_data
from unionfs.upper.upper import Upper

_SET_ID = stat.S_ISUID | stat.S_ISGID


class BusyFileError(ConflictError):
    """The kernel has a file open by itself that is to stay as it is, or to move."""


class Passing:
    """Which files of a mount the kernel may have. *upper*: what is written to, None: nothing is."""

    def __init__(self, upper: Upper | None) -> None:
        """Prepare for it, before the session is mounted. Raises UnavailableError saying why not."""
        if native.hooks is None:
            raise _unavailable("the C extension was not built")
        if not has_capability(CAP_SYS_ADMIN) or not in_initial_user_namespace():
            raise _unavailable("only for root outside user namespaces")
        if kernel_release() < (6, 9):
            raise _unavailable("needs Linux 6.9")
        if upper is not None and upper.override is not None:
            raise _unavailable("the upper keeps owners in an attribute, which a write may change")
        native.hooks.pass_through()
        self._upper = upper

    def back(self, node: Node, fd: int, *, flags: int = 0, mapped: bool = False) -> int:
        """Let the kernel have the file *fd* of *node*, which nobody has open.

        *flags*: what it is opened with. The kernel opens the upper's file with the same, and those
        that fcntl(2) changes it goes on with; dd(1) takes O_DIRECT off for what is left at the end.
        *mapped*: there is a map of it from when the kernel had it, which would not see what is
        written through the page cache, nor be seen there. So it gets that again.

        Returns the kernel's number for it; 0 if it is not to have it, or refuses.
        """
        if native.hooks is None or (flags & os.O_DIRECT and self._upper is not None and not mapped):
            return 0
        try:
            return native.hooks.back(fd) if mapped or self._stays(node, fd) else 0
        except OSError:
            return 0  # nobody can tell: whoever reads or writes is told why

    def _stays(self, node: Node, fd: int) -> bool:
        """Return whether *fd* is the file of *node* for good, and anybody may write to it as is.

        What a stranger writes takes set-id bits, which needs us: for who is no stranger they stay.
        And a file that only grows could be written anywhere through a map.
        """
        if self._upper is None:
            return True
        if node.source is not None or lacks_data(self._upper, node):
            return False
        if protection.of(self._upper.tree, node) & APPEND:
            return False
        return not os.fstat(fd).st_mode & _SET_ID

    def must_settle(self, node: Node) -> bool:
        """Return whether the upper file *node* has to be synced before the kernel writes to it.

        Each write may ask to be on the disk when it returns (RWF_DSYNC of pwritev2(2)), which the
        kernel then does as fdatasync(2): see ``Node.settled``. What was made in this mount was no
        copy, and cannot come back as a lower file's content.
        """
        upper = self._upper
        return not (upper is None or upper.volatile or node.settled or node.unmarked)

    def keeps_pages(self, node: Node) -> bool:
        """Return whether what the kernel's page cache has of *node* is its content.

        Of an upper file it may be from before the kernel wrote to that by itself.
        """
        return self._upper is None or node.source is not None


def refuse_writers(opened: Iterable[Node]) -> None:
    """Raise BusyFileError if the kernel may write to one of the *opened* files by itself."""
    for node in opened:
        if node.file.is_passed() and node.file.writes:
            raise BusyFileError(
                f"{_path(node)} is open for writing, and with data=passthrough nothing can hold"
                " that up: close it, or unmount first"
            )


def refuse_open(opened: Iterable[Node]) -> None:
    """Raise BusyFileError if the kernel has one of the *opened* files by itself."""
    for node in opened:
        if node.file.is_passed():
            raise BusyFileError(
                f"{_path(node)} is open, and with data=passthrough cannot be moved to a layer"
            )


def _path(node: Node) -> str:
    return os.fsdecode(node.path())


def _unavailable(why: str) -> UnavailableError:
    return UnavailableError(f"option data=passthrough: {why}")
