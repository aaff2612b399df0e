"""Which files have no extended attributes, found out before anybody asks.

Who compares two trees (Podman's diff and commit), or backs one up, asks each file for its list and
for its capability, and nearly none has any. The extension answers for those that it was told of.
"""

from __future__ import annotations

import stat
from collections.abc import Callable

from unionfs.fuse import native
from unionfs.union.node import Node

_AHEAD = 512  # files; looking at one costs a tenth of what two requests about it would
_CAPABILITY = b"security.capability"
_NAMES = frozenset(
    (
        _CAPABILITY,
        b"security.ima",
        b"security.selinux",
        b"system.posix_acl_access",
        b"system.posix_acl_default",
    )
)  # that the extension says are not there (_xattrless.c)


def _is_program(node: Node) -> bool:
    """Return whether *node* may be executed, before which the kernel asks for its capability."""
    attr = node.attr
    return attr is not None and stat.S_ISREG(attr.st_mode) and bool(attr.st_mode & 0o111)


class Xattrless:
    """Tells the extension of files that show no attributes.

    Each question that comes here although the extension could have answered it is a reason to look
    at ``ahead`` more files when the kernel is told of them, unless it is the kernel's own before it
    executes a program. So who goes through a tree asking has few questions that come here, and
    who does not ask pays nothing. Before ``begin`` nobody does.
    """

    __slots__ = ("_share", "_shown", "ahead")

    def __init__(self) -> None:
        self._shown: Callable[[Node], list[bytes]] | None = None
        self._share: Callable[[int, bool], None] | None = None
        self.ahead = 0

    def begin(self, shown: Callable[[Node], list[bytes]]) -> None:
        """From now on tell the extension, if there is one: *shown* returns a node's names."""
        self._shown = shown
        self._share = native.hooks.share_xattrless if native.hooks is not None else None

    def asked(self, node: Node, name: bytes | None = None) -> None:
        """Note that *node* was asked for its attribute *name* (None: for all names)."""
        if self._share is not None and (name is None or name in _NAMES):
            if name != _CAPABILITY or not _is_program(node):
                self.ahead = _AHEAD
            self._look(node)

    def entered(self, node: Node) -> None:
        """Look at *node*, of which the kernel is about to be told; if ``ahead`` is not 0."""
        self.ahead -= 1
        self._look(node)

    def _look(self, node: Node) -> None:
        if self._share is None or self._shown is None:
            return
        try:
            shown = self._shown(node)
        except OSError:
            return  # who asks for them will be told why
        if not shown:
            self._share(node.ino, node.is_dir)
