"""Request handlers that look at names: lookup and listing."""

from __future__ import annotations

import errno
import os
import stat

import pyfuse3
from pyfuse3 import EntryAttributes, FUSEError, ReaddirToken, RequestContext

from unionfs.fuse import native
from unionfs.fuse.guard import answers, answers_later
from unionfs.fuse.inodes import absent, bare
from unionfs.fuse.listing import Foresight, listing
from unionfs.fuse.state import State
from unionfs.union.node import Node
from unionfs.union.tree import Tree
from unionfs.upper.upper import Upper

_NAME_MAX = 255
_DOTS = (b".", b"..")


class NameHandlers(State):
    """The part of ``Operations`` that looks at names in directories."""

    def __init__(self, tree: Tree, upper: Upper | None, *, read_only: bool) -> None:
        super().__init__(tree, upper, read_only=read_only)
        self._absent = absent()
        self._bare = bare()
        self._foresight = Foresight()

    @answers
    def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """Answer which file *name* is; an absent name too is an answer to be remembered."""
        inodes = self.inodes
        parent = inodes[parent_inode]
        children = parent.children
        if children is None:
            children = self.tree.load(parent)
        node = children.get(name)
        if node is None:
            return self._missing(parent, name)
        if node.attr is None or node.file is not None:
            node = inodes.enter(parent, name, node)
            if self.xattrless.ahead:
                self.xattrless.entered(node)
            if parent.listing is not None and node.kind != stat.S_IFDIR:
                self._foresight.wanted()
        inodes.shown(node)
        return node.attr  # type: ignore[no-any-return]

    def _missing(self, parent: Node, name: bytes) -> EntryAttributes:
        """Answer for a name that is not among the children: absent, too long, or a dot."""
        if name in _DOTS:
            node = parent if name == b"." else parent.parent or parent
            self.inodes.attributes(node)
            self.inodes.shown(node)
            return node.attr  # type: ignore[no-any-return]
        if len(name) > _NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        hooks = native.hooks
        if self.by_node and hooks is not None and hooks.names_wanted(parent.ino):
            children = self.tree.load(parent)
            hooks.share_names(parent.ino, b"\0".join(children), len(children))
        return self._absent

    @answers
    def opendir(self, inode: int, ctx: RequestContext) -> int:
        """Open a directory for listing, or say that this needs no request (``by_node``)."""
        if self.by_node:
            raise FUSEError(errno.ENOSYS)
        return self.files.open_dir(self.inodes[inode])

    @answers_later
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """List what follows position *start_id*; see ``listing`` for what a position is worth.

        Entries that went meanwhile are left out and new ones wait for a rewind, so that none that
        stays is skipped or doubled (readdir(3p)). Files may come without attributes (see
        ``Foresight``), which the hook has to say to the kernel. An error comes alone: entries that
        it took along would have references that the kernel never gives back.
        """
        bare_count, told = 0, False
        parent = self.dir_of(fh)
        self.tree.load(parent)
        found, first = listing(parent, start_id)
        if not start_id:
            if found.changed:
                await self.forget_listing(parent)
            else:
                await self.listing_forgotten(parent)
        children = self.tree.load(parent)
        names_only = self.by_node and self._foresight.names_only(children)
        names, positions = found.names, found.positions
        inodes = self.inodes
        reply = pyfuse3.readdir_reply
        for index in range(first, len(names)):
            name = names[index]
            if index < len(_DOTS):
                if not self._list_dot(parent, name, positions[index], token):
                    return
                continue
            node = children.get(name)
            if node is None:
                continue
            if node.attr is None or node.file is not None:
                if names_only and node.source is not None and (number := inodes.expected(node)):
                    self._bare.st_ino = number
                    self._bare.st_mode = node.kind
                    if not reply(token, name, self._bare, positions[index]):
                        break
                    bare_count, told = bare_count + 1, True
                    continue
                try:
                    node = inodes.enter(parent, name, node)
                except FileNotFoundError:
                    continue  # removed behind our back: a listing goes on
                except Exception:
                    if not told:
                        raise
                    break  # the next piece begins with it, and says so
                if self.xattrless.ahead:
                    self.xattrless.entered(node)
            if not reply(token, name, node.attr, positions[index]):
                break
            inodes.shown(node)
            told = True
        else:
            if self.by_node and native.hooks is not None:
                native.hooks.end_of_listing(parent.ino, positions[-1])
        self._foresight.listed(bare_count)

    def _list_dot(self, node: Node, name: bytes, position: int, token: ReaddirToken) -> bool:
        shown = node if name == b"." else node.parent or node
        attr = self.inodes.attributes(shown)
        return bool(pyfuse3.readdir_reply(token, name, attr, position))

    @answers
    def releasedir(self, fh: int) -> None:
        """Close a directory."""
        del self.files.dirs[fh]

    def _child(self, parent: Node, name: bytes) -> Node:
        children = parent.children
        node = (self.tree.load(parent) if children is None else children).get(name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return node if node.identity is not None else self.inodes.enter(parent, name, node)
