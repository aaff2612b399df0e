"""The merged tree: which files there are, and which copy of each counts."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence

from unionfs.ondisk.marks import DirMarks
from unionfs.ondisk.override import AttributeNames
from unionfs.ondisk.whiteout import AUFS_OPAQUE, AUFS_PREFIX, is_whiteout
from unionfs.syscalls.at import PathFd, name_path, proc_path
from unionfs.union.below import Below
from unionfs.union.layer import AT_ONCE, FdPool, Layer, Part
from unionfs.union.merged import MergedIndex
from unionfs.union.node import Node, node_of, nodes_of
from unionfs.union.scan import KIND, Listed, holds, scan

_DIR = stat.S_IFDIR


class Tree:
    """The union of *layers*, topmost first.

    ``links`` finds the node of a file with several names by device and inode number; an entry
    lives as long as the node is known to the kernel or loaded (``forget`` ends it). ``merged`` says
    what the lowers show together (None: they are read), ``loaded`` is told of each directory when
    its children have become known, and ``listed`` asked before that what is in one that the upper
    does not have, in case somebody has read it already; all are set before the first look.
    """

    def __init__(self, layers: Sequence[Layer], pool: FdPool) -> None:
        self.layers = list(layers)
        self.pool = pool
        self.merged: MergedIndex | None = None
        self.loaded: Callable[[Node], None] | None = None
        self.listed: Callable[[Node], Listed | None] | None = None
        self._lowest = self.layers[-1]
        self._left: list[Layer] = []
        self.links: dict[tuple[int, int], Node] = {}
        self.root = Node(None, b"", _DIR)
        self.root.parts = self._root_parts()

    def lowers(self) -> Sequence[Layer]:
        """Return the layers below the upper, topmost first."""
        return [layer for layer in self.layers if layer.number]

    def _root_parts(self) -> list[Part]:
        """Return the layers' roots down to the first opaque one."""
        parts = []
        for layer in self.layers:
            parts.append(layer.root)
            if self._marks(layer.root).opaque:
                break
        return parts

    def ready(self, node: Node) -> list[Part]:
        """Return the parts of the directory *node*, looking at its marks the first time.

        Raises OSError, and UnknownMarkError for a redirect that is no path.
        """
        if node.is_ready:
            return node.parts
        parts: list[Part] = []
        candidates = node.candidates
        for position, above in enumerate(candidates):
            if self.merged is not None and above.layer.number:
                parts += self._known(candidates[position:], node.name)
                break
            if self.merged is None and position % AT_ONCE == 0:
                self.pool.look_ahead(candidates[position : position + AT_ONCE], node.name)
            part = Part(above.layer, above, node.name, self.pool)
            parts.append(part)
            last = position + 1 == len(candidates)
            if above.layer is self._lowest or (last and above.layer.plain):
                # nothing below, or nothing to merge with and no redirect by promise
                if above.layer.root.whiteout_files:
                    self._marks(part)
                break
            marks = self._marks(part)
            if marks.opaque:
                break
            if marks.redirect is not None:
                parts += self._redirected(node, part, marks.redirect)
                break
        node.candidates = ()
        node.parts = parts
        return parts

    def _known(self, parents: Sequence[Part], name: bytes) -> list[Part]:
        """Return the directories called *name* in the lowers *parents*, as the index has them."""
        assert self.merged is not None
        path = parents[0].path().rstrip(b"/") + b"/" + name
        numbers, opaque = self.merged.layers(path)
        above = {part.layer.number: part for part in parents}
        parts = [Part(above[n].layer, above[n], name, self.pool) for n in numbers]
        if opaque:
            parts[-1].opaque = True
        return parts

    def _marks(self, part: Part) -> DirMarks:
        """Return the marks of *part*, and note on it those that concern its own names."""
        try:
            target: int | bytes = part.fd()
        except PermissionError:  # its own user closed it to himself: that it has no marks is seen
            assert part.parent is not None
            target = name_path(part.parent.fd(), part.name)
        marks = part.marks(target)
        part.whiteout_files = marks.whiteout_files
        part.impure = marks.impure
        part.opaque = marks.opaque
        part.redirect = marks.redirect
        known = marks.opaque or isinstance(target, bytes)
        if part.layer.aufs and not known and holds(part.fd(), AUFS_OPAQUE):
            return marks._replace(opaque=True)
        return marks

    def _redirected(self, node: Node, part: Part, redirect: bytes) -> list[Part]:
        """Return the parts below *part*, whose mark sends the search to another path.

        A relative redirect names a sibling in the lower parts of the same parent; an absolute one
        starts at the root of the layers below (overlayfs.rst, "redirect_dir").
        """
        if redirect.startswith(b"/"):
            above = self._below(self.root.parts, part.layer.number)
            names = redirect[1:].split(b"/")
        else:
            assert node.parent is not None
            above = self._below(node.parent.parts, part.layer.number)
            names = [redirect]
        for name in names:
            above = self.step(above, name)
        return above

    @staticmethod
    def _below(parts: Sequence[Part], number: int) -> list[Part]:
        return [part for part in parts if part.layer.number > number]

    def step(self, parts: Sequence[Part], name: bytes) -> list[Part]:
        """Return the directories called *name* in *parts*, merged as a lookup merges them.

        Empty if the name is absent, hidden, or no directory. Raises OSError.
        """
        if self.merged is not None and parts and parts[0].layer.number:
            return self._known(parts, name)
        found: list[Part] = []
        for above in parts:
            kind = self.probe(above, name)
            if kind is None:
                continue
            if kind != _DIR:
                break
            part = Part(above.layer, above, name, self.pool)
            found.append(part)
            marks = self._marks(part)
            if marks.opaque:
                break
            if marks.redirect is not None:
                if marks.redirect.startswith(b"/"):
                    return found + self._walk_from_root(part, marks.redirect)
                return found + self.step(self._below(parts, above.layer.number), marks.redirect)
        return found

    def _walk_from_root(self, part: Part, redirect: bytes) -> list[Part]:
        parts = self._below(self.root.parts, part.layer.number)
        for name in redirect[1:].split(b"/"):
            parts = self.step(parts, name)
        return parts

    def probe(self, part: Part, name: bytes) -> int | None:
        """Return the kind of *name* in *part*, 0 for a whiteout, None if it is not there.

        As it is on the disk: not for layers with an override (``Layer.override``), nor for the
        names of AUFS marks. Raises OSError.
        """
        fd = part.fd()
        try:
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):  # a redirect's may be long
                raise
            return 0 if part.layer.aufs and holds(fd, AUFS_PREFIX + name) else None
        if is_whiteout(st):
            return 0
        if part.whiteout_files and name in scan(part).whiteouts:
            return 0
        return stat.S_IFMT(st.st_mode)

    def lower_shows(self, node: Node, name: bytes) -> bool:
        """Return whether the lower parts of the directory *node* show something called *name*.

        Then a whiteout is what removes the name. Raises OSError.
        """
        parts = node.lower_parts()
        if not parts:
            return False
        below = node.below = node.below or Below()
        if self.merged is not None:
            return below.shows_known(parts, name, self.merged)
        return below.shows(parts, name, self.probe)

    def load(self, node: Node) -> dict[bytes, Node]:
        """Return the children of the directory *node* by name, reading its parts the first time.

        The children know their kind and place, and were not looked at otherwise. Raises OSError.
        """
        children = node.children
        if children is None:
            children = node.children = self._merge(node)
            if self.loaded is not None:
                self.loaded(node)
        return children

    def _merge(self, node: Node) -> dict[bytes, Node]:
        children: dict[bytes, Node] = {}
        closed: set[bytes] = set()  # names that nothing below can add to
        if node.dead:
            return children
        parts = self.ready(node)
        if self.listed is not None and parts and parts[0].layer.number:
            known = self.listed(node)
            if known is not None:
                return nodes_of(node, parts, known)
        for position, part in enumerate(parts):
            if self.merged is not None and part.layer.number:
                self._add_known(children, closed, node, parts[position:])
                break
            found = scan(part)
            for name, entry in found.entries.items():
                if name in closed:
                    continue
                kind = entry & KIND
                child = children.get(name)
                if child is None:
                    children[name] = node_of(node, name, entry, part)
                    if kind != _DIR:
                        closed.add(name)
                elif kind == _DIR:
                    child.candidates = (*child.candidates, part)
                else:
                    closed.add(name)
            closed |= found.whiteouts
        return children

    def _add_known(
        self, children: dict[bytes, Node], closed: set[bytes], node: Node, lowers: list[Part]
    ) -> None:
        """Add to *children* of *node* what its *lowers* show, but for the names that are *closed*.

        Of a directory below, the layer that shows it and all under that are candidates: which of
        them have it, the index says then.
        """
        assert self.merged is not None
        found = self.merged.directory(lowers[0].path())
        assert found is not None
        homes = {part.layer.number: at for at, part in enumerate(lowers)}
        columns = zip(found.names, found.born, found.kinds, found.homes, strict=True)
        for place, (name, born, kind, home) in enumerate(columns):
            child = children.get(name)
            if name in closed or (child is not None and kind != _DIR):
                continue
            if child is None:
                child = children[name] = Node(node, name, kind)
                child.born, child.place = born, place
            if kind == _DIR:
                child.candidates = (*child.candidates, *lowers[homes[home] :])
            else:
                child.source = lowers[homes[home]]

    def lookup(self, node: Node, name: bytes) -> Node | None:
        """Return the child *name* of the directory *node*, or None. Raises OSError."""
        return self.load(node).get(name)

    def stat(self, node: Node) -> os.stat_result:
        """Return the attributes of the copy of *node* that counts.

        Of a file with several names after ``identify``. Raises OSError (ENOENT: it was removed).
        """
        return self.known_stat(node) or self.raw_stat(node)

    def known_stat(self, node: Node) -> os.stat_result | None:
        """Return what the merged index says of *node*: what is shown. None if it does not."""
        if node.place >= 0 and self.merged is not None and self.merged.has_attributes:
            top = next(iter(self.ready(node)), None) if node.kind == _DIR else None
            part = top.parent if top is not None else node.source
            if part is not None and part.layer.number:
                return self.merged.stat(part, node.place)
        return None

    def kept_stat(self, node: Node) -> tuple[os.stat_result, bool]:
        """Return the attributes of *node* for an index that other user namespaces read as well.

        And whether its owner is the same in all of them (``OverrideTree``). Raises OSError.
        """
        return self.raw_stat(node), False

    def raw_stat(self, node: Node) -> os.stat_result:
        """As ``stat``, always from the file itself, and as it is on disk."""
        if node.anchor >= 0:
            return os.stat(node.anchor)
        if node.kind == _DIR:
            parts = node.parts if node.is_ready else self.ready(node)
            if not parts:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), os.fsdecode(node.path()))
            return parts[0].stat()
        directory, name = self.place(node)
        return os.stat(name, dir_fd=directory, follow_symlinks=False)

    # What follows is asked for by changes and by FUSE; ``OverrideTree`` answers otherwise.

    def stat_open(self, fd: int) -> os.stat_result:
        """Return the attributes of the upper file that is open on *fd*. Raises OSError."""
        return os.stat(fd)

    def stat_at(self, part: Part, name: bytes) -> os.stat_result:
        """Return the attributes of *name*, which is no directory, in *part*. Raises OSError."""
        return os.stat(name, dir_fd=part.fd(), follow_symlinks=False)

    def stat_of(self, part: Part) -> os.stat_result:
        """Return the attributes of the directory *part*. Raises OSError."""
        return os.stat(part.fd())

    def readlink_at(self, part: Part, name: bytes) -> bytes:
        """Return the target of the symbolic link *name* in *part*. Raises OSError."""
        return os.readlink(name, dir_fd=part.fd())

    def readlink(self, node: Node) -> bytes:
        """Return the target of the symbolic link *node*. Raises OSError."""
        if node.anchor >= 0:
            return os.readlink(b"", dir_fd=node.anchor)
        directory, name = self.place(node)
        return os.readlink(name, dir_fd=directory)

    def names_of(self, node: Node) -> AttributeNames:
        """Return what the attributes of *node* are called in the layer that has it."""
        return self.layers[0].flavour

    def place(self, node: Node) -> tuple[int, bytes]:
        """Return directory descriptor and name of the copy of *node* (no directory) that counts.

        Not for a node with an ``anchor``: that has no name. Raises OSError.
        """
        source = node.source
        if source is not None:
            return source.fd(), node.source_name
        if node.hidden is not None:
            return node.hidden
        assert node.parent is not None
        return node.parent.parts[0].fd(), node.name

    def target(self, node: Node) -> int | bytes:
        """Return what extended-attribute calls take for *node*: a descriptor or a path.

        A file held by its anchor is reached through /proc, no further. Raises OSError.
        """
        if node.kind == _DIR and not node.dead:
            return self.ready(node)[0].fd()
        if node.anchor >= 0:
            return PathFd(node.anchor)
        return name_path(*self.place(node))

    def open(self, node: Node, flags: int) -> int:
        """Return a close-on-exec descriptor of the copy of *node* that counts. Raises OSError."""
        flags |= os.O_CLOEXEC
        if node.anchor >= 0:
            return os.open(proc_path(node.anchor), flags)
        if node.kind == _DIR:
            return os.open(b".", flags, dir_fd=self.ready(node)[0].fd())
        directory, name = self.place(node)
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=directory)

    def forget(self, node: Node) -> None:
        """Let go of *node*, which neither the kernel nor a loaded directory refers to."""
        node.let_anchor_go()
        if node.identity is not None and self.links.get(node.identity) is node:
            del self.links[node.identity]

    def go_on(self, layers: Sequence[Layer], links: dict[tuple[int, int], Node]) -> None:
        """Be the union of *layers*, whose nodes are the same (``upper.rebase``), without index.

        A layer that is there no more, but for the upper, stays open: removed files may be in it.
        """
        self.pool.drop(self.layers[0])
        self.layers[0].close()
        self._left += [layer for layer in self.layers[1:] if layer not in layers]
        self.layers, self._lowest, self.links = list(layers), layers[-1], links
        if self.merged is not None:
            self.merged.close()
            self.merged = None

    def close(self) -> None:
        """Close every layer and descriptor."""
        self.pool.close()
        if self.merged is not None:
            self.merged.close()
        for layer in (*self.layers, *self._left):
            layer.close()
