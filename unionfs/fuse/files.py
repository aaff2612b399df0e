"""Open files and directories.

All openers of a file share one descriptor, the node's: after a copy-up it is replaced once, and
every reader, whenever it opened the file, reads the new content from then on.

There are two ways. With handles (pyfuse3 alone), the descriptor lives from the first open to the
last release. By node (``by_node``: the session is hooked and opening needs no request), the daemon
does not know who has a file open: it opens a file when data is asked for, and keeps the descriptor
until the kernel forgets the node or too many are open.

A handle may say that the kernel is to have a file by itself (``passing``): its upper bits are then
the number under which the kernel has the descriptor, which the hook takes from there.
"""

from __future__ import annotations

import fcntl
import logging
import os
import resource
import stat
from itertools import islice

from unionfs.fuse import native
from unionfs.fuse.passing import Passing
from unionfs.syscalls.at import proc_path
from unionfs.syscalls.capability import CAP_DAC_OVERRIDE, has_capability
from unionfs.syscalls.flags import APPEND, IMMUTABLE
from unionfs.syscalls.lease import is_used_elsewhere
from unionfs.union import protection
from unionfs.union.metacopy import open_readable
from unionfs.union.node import Node
from unionfs.union.tree import Tree

log = logging.getLogger(__name__)

_BACKING_SHIFT = 40  # of a handle's bits; unionfs/fuse/_passing.c
_AGAIN = 2  # files that are looked at for a map that is gone, with each that is opened or left
_TRIES = 8  # descriptors that are looked at to find one that may be closed


class OpenFile:
    """The data of one open file.

    ``fd`` is its descriptor, ``writable`` whether it may be written by that, ``writes`` whether it
    might but for what chattr(1) has made of it since, which stops only us, ``lower`` whether it
    is on a lower layer's file, ``appends`` whether writing only appends, as files are that
    chattr(1) made so, ``opens`` how many handles there are. ``backing``: the kernel's number for
    the file, which it reads and writes by itself (0: it does not; ``passing``). ``mapped``: nobody
    has it open, but a map may be left by which the kernel writes it.
    """

    __slots__ = ("appends", "backing", "fd", "lower", "mapped", "opens", "writable", "writes")

    def __init__(
        self, fd: int, *, writable: bool, lower: bool = False, guard: int = 0, fresh: bool = False
    ) -> None:
        """*fresh*: the file was made just now, and nothing restricts what *fd* allows."""
        self.opens = self.backing = 0
        self.mapped = False
        if fresh:
            self.fd = fd
            self.lower = self.appends = False
            self.writes = self.writable = writable
        else:
            self.go_on(fd, writable=writable, lower=lower, guard=guard)

    def go_on(self, fd: int, *, writable: bool, lower: bool, guard: int = 0) -> None:
        """Be open on *fd* from now on, which can be written if *writable*."""
        self.fd = fd
        self.writes = writable
        self.lower = lower
        self.guard(guard)

    def is_passed(self) -> bool:
        """Return whether the kernel may write it without a request, if ``writes``."""
        return bool(self.backing) or self.mapped

    def may_be_mapped(self) -> bool:
        """Return whether a map to write by may be left of a file that nobody has open."""
        return self.writes and is_used_elsewhere(self.fd)

    def guard(self, protection: int) -> None:
        """Allow what *protection* (IMMUTABLE, APPEND) leaves of what the descriptor allows."""
        self.writable = self.writes and not protection & IMMUTABLE
        self.appends = self.writable and (
            bool(protection & APPEND) or bool(fcntl.fcntl(self.fd, fcntl.F_GETFL) & os.O_APPEND)
        )


class Files:
    """Open files by node, and handles by number. One thread, between awaits.

    ``limit`` is how many descriptors without a handle are kept at most, where the process may have
    four times as many. A descriptor is not to be used across an ``await``: duplicate it.
    ``inode_says_all``: what an upper file's inode says is what is shown, so that the extension may
    answer with it. ``passing``: which files the kernel reads and writes by itself (None: none).
    """

    def __init__(self, tree: Tree, limit: int = 1024) -> None:
        self._tree = tree
        self._limit = min(limit, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._next = 0
        self._open: dict[Node, None] = {}
        self._mapped: dict[Node, None] = {}  # without a handle: see ``close``
        self._superuser: bool | None = None  # not known before it serves
        self.by_node = False
        self.passing: Passing | None = None
        self.inode_says_all = tree.layers[0].override is None
        self.nodes: dict[int, Node] = {}
        self.dirs: dict[int, Node] = {}

    def open(self, node: Node, *, write: bool, flags: int = 0) -> int:
        """Return a handle of *node*, which for writing must be in the upper. Raises OSError.

        *flags* as for ``Passing.back``, here and below.
        """
        self.look_again(node)
        self._look_at_some()
        file = self.data(node, write=write)
        if not file.opens:
            self._pass(node, file, flags)
        file.opens += 1
        return self._handle(node, file)

    def passed(self, handle: int, flags: int) -> int:
        """Return *handle*, which nobody was told of, or one that says more: since it was made, its
        file was copied up, and the kernel may have it by itself if nobody else has it open.
        """
        node = self.nodes[handle]
        if node.file.backing or node.file.opens > 1:
            return handle
        self._pass(node, node.file, flags)
        del self.nodes[handle]
        return self._handle(node, node.file)

    def _pass(self, node: Node, file: OpenFile, flags: int) -> None:
        if self.passing is not None:
            file.backing = self.passing.back(node, file.fd, flags=flags, mapped=file.mapped)
            file.mapped = False
            self._mapped.pop(node, None)

    def _handle(self, node: Node, file: OpenFile) -> int:
        self._next += 1
        handle = self._next | file.backing << _BACKING_SHIFT
        self.nodes[handle] = node
        return handle

    def data(self, node: Node, *, write: bool) -> OpenFile:
        """Return the open file of *node*, opened or opened for writing as needed.

        For writing the node must be in the upper. Raises OSError.
        """
        file: OpenFile | None = node.file
        if file is None:
            fd = self._open_fd(node, write=write)
            guard = protection.of(self._tree, node) if write else 0
            file = OpenFile(fd, writable=write, lower=node.source is not None, guard=guard)
            self._keep(node, file)
            if file.lower:
                self._share_part(node)
        elif write and not file.writable:
            self._reopen(node, write=True)
        return file

    def pair(self, source: Node, target: Node) -> tuple[int, int]:
        """Return descriptors for reading *source* and writing *target*, both open at a time.

        As ``data``, of which the second call may close what the first returned.
        """
        self.data(target, write=True)
        fd = self.data(source, write=False).fd
        if target.file is None:
            return source.file.fd, self.data(target, write=True).fd
        return fd, target.file.fd

    def adopt(self, node: Node, fd: int, flags: int) -> int:
        """Return a handle of the new file *node*, open on *fd* for reading and writing.

        By node, that is the node's number, which the caller must have given it.
        """
        self._keep(node, OpenFile(fd, writable=True, fresh=True))
        return node.ino if self.by_node else self.open(node, write=True, flags=flags)

    def _keep(self, node: Node, file: OpenFile) -> None:
        self._share(node, file)  # first: should it fail, the descriptor is the caller's to close
        node.file = file
        self._open[node] = None
        if self.by_node and len(self._open) > self._limit:
            self._drop_one(node)

    def _drop_one(self, latest: Node) -> None:
        """Close the oldest descriptor, but for that of *latest*, that can be had again.

        One that allows what its file's mode does not allow any more (or never did: O_CREAT with
        mode 0444) is all that its openers have, where the daemon is no superuser.
        """
        for node in list(islice(self._open, _TRIES)):
            if node is not latest and (not self.may_lose() or _can_be_had_again(node.file)):
                self.drop(node)
                return
            del self._open[node]  # to the end: others come first the next time
            self._open[node] = None

    def hold_open(self, node: Node, *, write: bool) -> None:
        """Have a descriptor of *node*, in the upper, before its permissions change: who has it open
        goes on with it, whatever they are then (open(2)).

        For ``may_lose``. *write*: the file may be opened for writing. Raises OSError, but for a
        file that cannot be opened even now.
        """
        kept = node.file is not None and node.file.writable
        if kept or node.kind != stat.S_IFREG:
            return
        for for_writing in (True, False) if write else (False,):
            try:
                self.data(node, write=for_writing)
                return
            except PermissionError:
                pass

    def may_lose(self) -> bool:
        """Return whether a change of permissions can part openers from their file.

        By node nobody says that a file was opened, and a daemon that is no superuser may be kept
        out when its data is asked for.
        """
        if self._superuser is None:
            self._superuser = has_capability(CAP_DAC_OVERRIDE)
        return self.by_node and not self._superuser

    def _open_fd(self, node: Node, *, write: bool) -> int:
        if not write:
            return open_readable(self._tree, node)
        protection.check_change(self._tree, node, appends=True)
        try:
            return self._tree.open(node, os.O_RDWR)
        except PermissionError:
            return self._tree.open(node, os.O_RDWR | os.O_APPEND)  # if that is all it allows

    def opened(self) -> list[Node]:
        """Return the nodes that have a descriptor."""
        return list(self._open)

    def go_on_with(self, node: Node, fd: int, *, writable: bool = True) -> None:
        """Let the openers of *node* go on with *fd*, which is taken over: its file is there now.

        Opening a copy anew might fail, and the openers would read old content for ever.
        """
        if node.file is not None:
            self._change(node, fd, writable=writable, lower=node.source is not None)
        elif fd >= 0:
            _close(node, fd)

    def catch_up(self) -> None:
        """After a move that may have copied whole directories: let openers go on with the copies.

        Raises OSError.
        """
        for node in list(self._open):
            if node.file.lower and node.source is None:
                self._reopen(node, write=False)

    def _reopen(self, node: Node, *, write: bool) -> None:
        fd = self._open_fd(node, write=write)
        self._change(node, fd, writable=write, lower=node.source is not None)

    def _change(self, node: Node, fd: int, *, writable: bool, lower: bool) -> None:
        """Let *fd* take the place of the descriptor of the open *node*."""
        file = node.file
        guard = protection.of(self._tree, node) if writable else 0
        self._unshare(node)
        _close(node, file.fd)
        file.go_on(fd, writable=writable, lower=lower, guard=guard)
        self._share(node, file)

    def guard(self, node: Node) -> None:
        """Let the openers of *node* do from now on what its flags allow, which have changed."""
        if node.file is not None:
            self._unshare(node)
            node.file.guard(protection.of(self._tree, node))
            self._share(node, node.file)

    def _share(self, node: Node, file: OpenFile) -> None:
        """Let the extension answer reads of *node*, and more where the file says all there is.

        That is not so of the copy of a lower file with several names, whose count is the union's,
        nor where owners and modes are in an attribute, or are translated; and a file that only
        appends does not go by the offset that a write says.
        """
        if self.by_node and native.hooks is not None:
            own = file.writable and not (node.nlink or file.appends) and self.inode_says_all
            native.hooks.share(node.ino, file.fd, own)

    def _share_part(self, node: Node) -> None:
        """Let the extension read files beside the lower file *node* by itself."""
        part, parent, hooks = node.source, node.parent, native.hooks
        if not self.by_node or hooks is None or part is None or parent is None:
            return
        if part in parent.parts:
            layer = part.layer
            mark = b"" if layer.plain else layer.flavour.metacopy
            hooks.share_part(parent.ino, layer.number, part.fd(), mark)

    def names_changed(self, node: Node) -> None:
        """Share *node* anew after a change of its names: who counts them may be another now."""
        if node.file is not None:
            self._share(node, node.file)

    def _unshare(self, node: Node) -> None:
        if node.file.writable:
            node.attr = None  # the extension may have changed the file (``Inodes.stale``)
        if self.by_node and native.hooks is not None:
            native.hooks.unshare(node.ino)

    def close(self, handle: int) -> Node | None:
        """Close a handle; the descriptor goes with the last.

        A map of a file that the kernel has by itself holds no handle. Its node is returned, if one
        may be left, and keeps its descriptor: see ``look_again``.
        """
        node = self.nodes.pop(handle)
        file = node.file
        file.opens -= 1
        if file.opens:
            return None
        if file.backing and not file.lower and native.hooks is not None:
            native.hooks.unback(file.backing)  # it counts as one who has the file open
            file.backing = 0
            file.mapped = file.may_be_mapped()
        if not file.mapped:
            self.drop(node)
            return None
        self._look_at_some()
        self._mapped[node] = None
        return node

    def look_again(self, *nodes: Node) -> None:
        """Close those of *nodes* of which only a map was left, and that is gone as well."""
        for node in nodes:
            if node in self._mapped and not node.file.may_be_mapped():
                self.drop(node)

    def _look_at_some(self) -> None:
        for other in list(islice(self._mapped, _AGAIN)):
            self.look_again(other)
            if other in self._mapped:  # to the end: others come first the next time
                del self._mapped[other]
                self._mapped[other] = None

    def look_again_at_all(self) -> None:
        """``look_again``, at all that there are."""
        self.look_again(*self._mapped)

    def drop(self, node: Node) -> None:
        """Close the descriptor of *node*, if it has one."""
        if node.file is not None:
            self._unshare(node)
            if node.file.backing and native.hooks is not None:
                native.hooks.unback(node.file.backing)
            _close(node, node.file.fd)
            node.file = None
            del self._open[node]
            self._mapped.pop(node, None)

    def open_dir(self, node: Node) -> int:
        """Return a handle of the directory *node*."""
        self._next += 1
        self.dirs[self._next] = node
        return self._next

    def close_all(self) -> None:
        """Close every descriptor (the daemon is leaving)."""
        for node in list(self._open):
            self.drop(node)
        self.nodes.clear()
        self.dirs.clear()


def _close(node: Node, fd: int) -> None:
    """Close the descriptor *fd* of *node*, which it is whatever close(2) says.

    An upper that is on another machine, or on FUSE, may tell there that it lost what was written.
    Nobody waits for that; and whoever went on with the number would serve another file by it.
    """
    try:
        os.close(fd)
    except OSError as error:
        log.error("%s may have lost content: %s", os.fsdecode(node.path()), error)


def _can_be_had_again(file: OpenFile) -> bool:
    if file.lower:
        return True  # as it was the first time: nobody changes the layers
    wanted = os.R_OK | os.W_OK if file.writable else os.R_OK
    return os.access(proc_path(file.fd), wanted, effective_ids=True)
