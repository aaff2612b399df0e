"""What the handlers of one mount share, and the copy-up that lets other requests go on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from functools import partial

import pyfuse3
import trio

from unionfs.fuse import callers, loop, native, threads
from unionfs.fuse.aside import Aside
from unionfs.fuse.files import Files
from unionfs.fuse.inodes import Inodes
from unionfs.fuse.owners import Owners
from unionfs.fuse.told import Told
from unionfs.fuse.tracer import Tracer
from unionfs.fuse.xattrless import Xattrless
from unionfs.syscalls.copy import KeepGoing
from unionfs.union.node import Node
from unionfs.union.tree import Tree
from unionfs.upper.attributes import IsMember
from unionfs.upper.copyup import Cut, FileCopy, copy_removed_dir, ensure_dir
from unionfs.upper.data import DataCopy, lacks_data
from unionfs.upper.rename import take_lower_parts
from unionfs.upper.upper import Upper

# Bytes that are copied at once rather than in a thread (about 0.2 ms), where nothing is synced.
_INLINE = 1 << 20
_FLUSHES = 24  # requests that wait for the kernel's pages at a time; see ``flush_maps``


class State:
    """One mount: its tree, its upper (None: read-only), the kernel's nodes and handles.

    ``by_node``: opening a directory needs no request, the kernel caches listings, and what would
    carry a handle carries the node's number in its place (``native``). ``files.by_node`` is the
    same for files, which may be served otherwise (``passthrough``).

    ``overrides``: the upper keeps owners in an attribute (``union.override``).

    ``_copying`` has an event for each node that a thread is copying up; whoever needs that copy
    waits for it. Everything else in the mount is free to go on meanwhile, with the old content.
    ``acl``, ``xattrs``: whether files have ACLs, and attributes at all.
    ``owners``: how IDs in the mount and on disk differ (None: they do not).
    ``told``: what the mount tells of its layers in attributes (None: nothing), ``tracer`` of its
    requests.
    ``xattrless``: which files have no attributes.
    ``record``: nothing is left to the kernel's caches that somebody who traces should see.

    ``_flushes`` counts the requests that wait for pages of the kernel's; ``_aside`` is for what
    rarely has to. ``_forgetting`` has an event for each directory whose listing the kernel is
    forgetting, ``_behind`` counts the readers that wait for one.

    ``leaving``: the mount ends, and copies that are under way end with EIO and leave nothing.
    """

    def __init__(self, tree: Tree, upper: Upper | None, *, read_only: bool) -> None:
        self.tree = tree
        self.upper = None if read_only else upper
        self.inodes = Inodes(tree, upper)
        self.files = Files(tree)
        self.by_node = False
        self.overrides = upper is not None and upper.override is not None
        self.acl = self.xattrs = True
        self.owners: Owners | None = None
        self.leaving = False
        self.told: Told | None = None
        self.tracer: Tracer | None = None
        self.record = False
        self.xattrless = Xattrless()
        self._copying: dict[Node, trio.Event] = {}
        self._flushes = 0
        self._forgetting: dict[Node, trio.Event] = {}
        self._behind = 0
        self._aside = Aside()

    def serve_by_node(self, *, files: bool) -> None:
        """From now on handles of directories are nodes' numbers, and those of *files* if so said.

        Before the first request only.
        """
        self.by_node = True
        self.files.by_node = files
        self.inodes.tells_lower = files and native.hooks is not None

    def tell(self, told: Told, tracer: Tracer) -> None:
        """From now on answer for the attributes of ``fuse.told``; before the first request only."""
        self.told, self.tracer = told, tracer

    def settle(self) -> None:
        """Before a file is moved, copied up or removed: tell who traces what it was until now."""
        if self.tracer is not None:
            self.tracer.settle()

    def offer(self, *, acl: bool, xattrs: bool) -> None:
        """Say whether there are ACLs, and attributes at all; before mounting only."""
        self.acl, self.xattrs = acl and xattrs, xattrs

    def map_owners(self, owners: Owners) -> None:
        """From now on show other owners than the disk's; before the first request only."""
        self.owners = self.inodes.owners = owners
        self.files.inode_says_all = False

    def killer(self) -> IsMember | None:
        """As ``callers.killer``, for groups on disk."""
        found = callers.killer()
        return found if self.owners is None else self.owners.member(found)

    def killer_in(self, ctx: pyfuse3.RequestContext) -> IsMember | None:
        """As ``callers.killer_in``, for groups on disk."""
        found = callers.killer_in(ctx)
        return found if self.owners is None else self.owners.member(found)

    def dir_of(self, fh: int) -> Node:
        """Return the directory that *fh* stands for."""
        return self.inodes[fh] if self.by_node else self.files.dirs[fh]

    def node_of(self, fh: int) -> Node:
        """Return the file that *fh* stands for."""
        return self.inodes[fh] if self.files.by_node else self.files.nodes[fh]

    def acts_as(self, owner: int, ctx: pyfuse3.RequestContext) -> bool:
        """Return whether the caller may do with a file what its *owner* may, as it is shown."""
        return callers.may_as_owner(ctx, owner)

    def writer(self) -> Upper:
        """Return the upper. Raises EROFS where there is none."""
        if self.upper is None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return self.upper

    async def copy_up(self, node: Node, *, cut: Cut | None = None) -> Upper:
        """Bring *node* into the upper; *cut*, if that is given and can be (``Cut.made``).

        Returns the upper. Awaits only where there is much to copy or to sync. Raises OSError.
        """
        upper = self.writer()
        if node.is_dir:
            if node.dead:
                copy_removed_dir(upper, node)
            else:
                self.copy_up_dir(upper, node)
            return upper
        while node.source is not None:
            event = self._copying.get(node)
            if event is not None:
                await event.wait()
                continue
            await loop.with_room(partial(self._copy_file, upper, node, cut))  # once or twice
        return upper

    async def own_data(self, node: Node) -> Upper:
        """Bring *node* and, of a file that the kernel copied without it, its data into the upper.

        For what changes content or moves the file away from its data. Raises OSError.
        """
        upper = await self.copy_up(node)
        while lacks_data(upper, node):
            event = self._copying.get(node)
            if event is not None:
                await event.wait()
                continue
            copy = DataCopy(upper, node)
            try:
                before = self.tree.stat(node)
                await self._in_thread(node, copy.copy)
                copy.commit(before)
                node.settled = False
                self.files.go_on_with(node, copy.take())
            finally:
                copy.close()
        return upper

    async def copied(self, node: Node) -> None:
        """Wait while *node* is copied: at its end a copy gets the times that it began with."""
        while (event := self._copying.get(node)) is not None:
            await event.wait()

    async def make_movable(self, node: Node, *, same_parent: bool) -> bool:
        """Copy up *node*, which is to be moved: of a directory all, if no mark can say where the
        rest of it is. ``rename`` does what is left of that, and lets nobody in meanwhile.

        Returns whether it has to be all of a directory.
        """
        upper = self.writer()
        if not node.is_dir:
            await self.own_data(node)
            return False
        self.copy_up_dir(upper, node)
        if take_lower_parts(upper, node, same_parent=same_parent):
            return False
        await self.copy_up_tree(node)
        return True

    async def copy_up_tree(self, node: Node) -> None:
        """Bring the directory *node* and all that is below it into the upper, data included.

        What comes to be there meanwhile may be left out. Raises OSError, EIO where the mount ends;
        what was copied stays, which nobody can see.
        """
        upper = self.writer()
        pending = [node]
        while pending:
            each = pending.pop()
            if each.dead:
                continue
            self.copy_up_dir(upper, each)
            for name, child in list(self.tree.load(each).items()):
                if child.is_dir:
                    pending.append(child)
                elif (each.children or {}).get(name) is child:
                    await self.own_data(self.inodes.enter(each, name, child))
                    await self._go_on()  # what is copied at once has let nobody in
            await self._go_on()

    async def _go_on(self) -> None:
        """Let other requests in. Raises OSError where the mount ends."""
        with loop.waiting():
            await trio.lowlevel.checkpoint()
        if self.leaving:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def copy_up_dir(self, upper: Upper, node: Node) -> None:
        """Bring the directory *node* and its parents into the upper, and tell the kernel.

        The copies change what stat shows of parents (ctime; nlink of what is merged now), which
        no request of the kernel's asked for. So do those that were made before one failed.
        """
        if node.upper_part() is not None:
            return
        self.tree.ready(node)
        missing = []
        each: Node | None = node
        while each is not None and not each.in_upper:
            missing.append(each)
            each = each.parent
        self.settle()
        try:
            ensure_dir(upper, node)
        finally:
            copied = [one for one in missing if one.in_upper]
            self._tell_copied([*copied, each] if copied and each is not None else copied)

    def _tell_copied(self, copied: Sequence[Node]) -> None:
        """Tell the kernel and the extension of these directories, which have changed by copies."""
        for one in copied:
            self.inodes.lending.copied(one)
            self.changed(one)
        for one in copied:
            self.share_dir(one)

    def share_dir(self, node: Node) -> None:
        """Let the extension tell the attributes of the directory *node* from now on, if it can.

        One in the upper, where each change of a name is followed by that question.
        """
        part = node.upper_part()
        if part is None or node.dead or not (node.nlookup and self.by_node):
            return
        if native.hooks is not None and self.files.inode_says_all:
            merged = len(node.parts) > 1 or self.inodes.static_nlink
            native.hooks.share_dir(node.ino, part.fd(), merged)

    def changed(self, node: Node) -> None:
        """Tell the kernel that the attributes of *node* are not what it remembers."""
        node.attr = None
        if node.nlookup:
            try:
                pyfuse3.invalidate_inode(node.ino, attr_only=True)
            except OSError:
                pass  # ENOENT: it has forgotten the node, so there is nothing to correct

    def changed_below(self, node: Node) -> None:
        """``changed``, of the directory *node* and of all directories that are known below it."""
        pending = [node]
        while pending:
            each = pending.pop()
            self.changed(each)
            pending += [child for child in (each.children or {}).values() if child.is_dir]

    async def flush_maps(self, node: Node) -> bool:
        """Let the kernel send what programs wrote into their maps of *node*; say whether it did.

        While it sends pages, it waits for our answers. With all our workers waiting for it nobody
        would give them, so beyond some of these it is not asked.
        """
        if self._flushes >= _FLUSHES:
            return False
        self._flushes += 1
        try:
            await threads.run(pyfuse3.invalidate_inode, node.ino)
        finally:
            self._flushes -= 1
        return True

    async def forget_listing(self, node: Node) -> None:
        """Let the kernel forget what it has of the listing of *node*, whose names changed.

        It fills its cache with the pieces of all readers, and looks whether that is old when one
        begins. One that had begun when another completed it would go on in the old names, and miss
        some that were there before it began (fs/fuse/readdir.c, fuse_readdir_cached()).

        It waits for a reader to whom it copies a piece, and who may wait for us, or for whatever
        else his memory is on. Others are answered then.
        """
        if not self.by_node:
            return
        try:
            if not self._aside.did(partial(pyfuse3.invalidate_inode, node.ino)):
                await self._forget_later(node)
        except OSError:
            pass  # ENOENT: a directory without a node is not listed; there is nothing to forget

    async def _forget_later(self, node: Node) -> None:
        event = self._forgetting[node] = trio.Event()
        try:
            await self.flush_maps(node)
        finally:
            if self._forgetting.get(node) is event:
                del self._forgetting[node]
            event.set()

    async def listing_forgotten(self, node: Node) -> None:
        """Wait while another reader, who began a moment ago, has the listing of *node* forgotten.

        Who did not could be sent on, by the kernel, in what it has until then. Some may wait, as in
        ``flush_maps``: somebody has to be left to answer. Where forgetting takes long, it is for a
        page that is in use, and what came before that is gone already.
        """
        event = self._forgetting.get(node)
        if event is None or self._behind >= _FLUSHES:
            return
        self._behind += 1
        try:
            await event.wait()
        finally:
            self._behind -= 1

    async def _copy_file(self, upper: Upper, node: Node, cut: Cut | None) -> None:
        if node.source is None or node in self._copying:
            return  # the second time: somebody else was first
        if node.parent is not None and not node.dead:
            self.copy_up_dir(upper, node.parent)
        copy = FileCopy(upper, node, cut=cut)
        try:
            if copy.size == 0 or (upper.volatile and copy.size <= _INLINE):
                copy.copy()
            else:
                await self._in_thread(node, copy.copy)
            if node.source is not None:  # else a directory was copied whole meanwhile, this with it
                self._commit(copy)
        finally:
            copy.close()

    def _commit(self, copy: FileCopy) -> None:
        """Publish *copy*; whatever fails, who has the file open goes on with what is there now.

        A name more in the upper's directory changes what stat shows of that (ctime, size).
        """
        node = copy.node
        self.settle()
        try:
            copy.commit()
        finally:
            if node.source is None:
                self.files.go_on_with(node, copy.take())
            if node.parent is not None and not node.dead:
                self.changed(node.parent)

    async def _in_thread(self, node: Node, copy: Callable[[KeepGoing], None]) -> None:
        event = self._copying[node] = trio.Event()
        try:
            await threads.run(copy, self._keep_going)
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from None
        finally:
            del self._copying[node]
            event.set()

    def _keep_going(self) -> bool:
        """Return whether a copy should go on; asked by its thread."""
        return not self.leaving
