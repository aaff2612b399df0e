"""The inode table: numbers for nodes, attributes for the kernel, and lookup counts.

A number is what ``st_ino`` shows and what the kernel calls the node by; pyfuse3 has one setter for
both. It is the inode number of the copy that the file was born as (``upper.identity``), which stays
the same through copy-up and remount, with the filesystem's place in the stack where layers are on
several (``numbers``).

The upper's filesystem gives a removed file's inode number to a new file. To the kernel that is then
another *generation* of the number, so that a handle of the old one (name_to_handle_at(2), an NFS
client's) is stale and does not open the new one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from pyfuse3 import ROOT_INODE, EntryAttributes, SetattrFields

from unionfs.fuse import native
from unionfs.fuse.lending import Lending
from unionfs.fuse.numbers import FAR_BITS, Numbers
from unionfs.fuse.owners import Owners
from unionfs.union.node import Node
from unionfs.union.tree import Tree
from unionfs.upper.holding import let_go, take_place
from unionfs.upper.identity import identify
from unionfs.upper.upper import Upper

FOREVER = 1e9  # seconds; about 31 years, and safe to add to the kernel's clock
_SPARE = 0xFF << FAR_BITS  # numbers for files whose own one is taken or does not fit
_DIR = stat.S_IFDIR
_REG = stat.S_IFREG
_BLOCK = 4096  # what EntryAttributes starts with
_SHOWN = (
    "st_ino",
    "st_mode",
    "st_nlink",
    "st_uid",
    "st_gid",
    "st_rdev",
    "st_size",
    "st_blksize",
    "st_blocks",
    "st_atime_ns",
    "st_mtime_ns",
    "st_ctime_ns",
)
_SETTABLE = {  # what ``SetattrFields`` calls them
    "st_mode": "mode",
    "st_uid": "uid",
    "st_gid": "gid",
    "st_size": "size",
    "st_atime_ns": "atime",
    "st_mtime_ns": "mtime",
}


def generation_after(generation: int) -> int:
    """Return the generation of numbers that are given again once more.

    It has 32 bits, as the kernel's (fs/fuse/inode.c, fuse_stale_inode()), and is none that means
    something to the extension: a large one would tell of a file in a lower layer.
    """
    return generation + 1 if generation + 1 < native.LOWER else native.NAME_ONLY + 1


class Inodes:
    """The nodes that the kernel knows, by number. Touched between awaits of one thread only."""

    def __init__(self, tree: Tree, upper: Upper | None) -> None:
        self.tree = tree
        self.upper = upper
        self.owners: Owners | None = None  # see ``State.map_owners``
        self.static_nlink = False  # whether every directory shows one link
        self.lending = Lending(self)
        self.tells_lower = False  # whether the extension may read files of lower layers
        self._nodes: dict[int, Node] = {ROOT_INODE: tree.root}
        self._spare = _SPARE
        self._of_root = 0  # what the root shows, though the kernel calls it by another
        self._generation = native.NAME_ONLY  # until a file is gone: generation_after
        self.numbers = Numbers()
        self.see_devices()
        tree.root.ino = ROOT_INODE
        tree.root.nlookup = 1

    def see_devices(self) -> None:
        """Give the filesystems of the tree's layers that have none a place in numbers."""
        self.numbers.see(layer.device for layer in self.tree.layers)

    def __getitem__(self, ino: int) -> Node:
        """Return the node that the kernel calls *ino*. Raises OSError (ESTALE if it is lost)."""
        node = self._nodes.get(ino) or self.lending.bring(ino)
        if node is None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return node

    def find(self, ino: int) -> Node | None:
        """Return the node that is called *ino*, None for one that is lent or nobody knows."""
        return self._nodes.get(ino)

    def known(self) -> Iterator[Node]:
        """Return the nodes that the kernel refers to."""
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes) + len(self.lending)

    def enter(self, parent: Node, name: bytes, node: Node, fd: int = -1) -> Node:
        """Return the node to show for *name* in *parent*, with its attributes at hand.

        Usually *node*; where the name is another link of a known file, that file's node, which
        takes its place. *fd*: the upper file of *node* is open on it. Raises OSError.
        """
        if not self.stale(node):
            return node
        st = self.tree.stat(node) if fd < 0 else self.tree.stat_open(fd)
        if node.identity is None:
            known = identify(self.tree, self.upper, node, st)
            if known is not node:
                take_place(self.upper, parent, name, known)
                return self.enter(parent, name, known)
            if node.hidden is not None:
                st = self.tree.stat(node)  # it turned out to be a link of a copied-up file
        self._fill(node, st)
        return node

    @staticmethod
    def stale(node: Node) -> bool:
        """Return whether the attributes of *node* are to be asked for before they are shown.

        Of a file that is open for writing always: the extension may have changed it.
        """
        return node.attr is None or (node.file is not None and node.file.writable)

    def attributes(self, node: Node) -> EntryAttributes:
        """Return the attributes of *node*, asking the filesystem if they are not at hand."""
        if self.stale(node):
            file = node.file  # one for reading may be on other data than the inode's (metacopy)
            own = file is not None and file.writable
            self._fill(node, self.tree.stat_open(file.fd) if own else self.tree.stat(node))
        return node.attr  # type: ignore[no-any-return]

    def begin(self, node: Node, fd: int) -> None:
        """Number *node*, a file that was made just now and is open on *fd*.

        For who tells the kernel its attributes without us. Raises OSError.
        """
        st = self.tree.stat_open(fd)
        node.identity = (st.st_dev, st.st_ino)
        self._give_number(node, st)

    def _give_number(self, node: Node, st: os.stat_result) -> None:
        """See that *node*, whose attributes are *st*, has a number that no other node has."""
        if (
            not node.ino
            or self._nodes.get(node.ino, node) is not node
            or self.lending.has(node.ino)
        ):
            node.ino = self._number(node, st)
            if node.unmarked and self._generation > native.NAME_ONLY:
                node.generation = self._generation

    def _fill(self, node: Node, st: os.stat_result) -> None:
        self._give_number(node, st)
        attr = EntryAttributes()
        attr.st_ino = node.ino
        attr.generation = node.generation
        attr.st_mode = st.st_mode
        attr.st_nlink = self._links(node, st)
        attr.st_uid = st.st_uid
        attr.st_gid = st.st_gid
        if self.owners is not None:
            self.owners.show(attr)
        attr.st_size = st.st_size
        attr.st_blocks = st.st_blocks
        if st.st_rdev:
            attr.st_rdev = st.st_rdev
        if st.st_blksize != _BLOCK:
            attr.st_blksize = st.st_blksize
        attr.st_atime_ns = st.st_atime_ns
        attr.st_mtime_ns = st.st_mtime_ns
        attr.st_ctime_ns = st.st_ctime_ns
        attr.attr_timeout = self.validity(node)
        attr.entry_timeout = FOREVER
        if self.tells_lower and node.source is not None and node.kind == _REG and st.st_nlink == 1:
            attr.generation = native.LOWER | node.source.layer.number
        node.attr = attr

    @staticmethod
    def validity(node: Node) -> float:
        """Return for how long the kernel may go by the attributes of *node*, in seconds.

        It changes some itself where it writes a file by itself (``fuse.passing``), through maps
        too: mtime, and set-id bits.
        """
        file = node.file
        return 0 if file is not None and file.writable and file.is_passed() else FOREVER

    def _links(self, node: Node, st: os.stat_result) -> int:
        """Return st_nlink: 1 for a merged directory, as overlayfs has it (nobody counts those)."""
        if node.dead:
            return 0
        if node.kind == _DIR:
            return 1 if len(node.parts) > 1 or self.static_nlink else st.st_nlink
        return node.nlink or st.st_nlink

    def expected(self, node: Node) -> int:
        """Return the number that the lower file *node* has or will have; 0 if not certain.

        Since a rebase, another node may have it: that of a file whose inode is gone. And a file
        with several names may have another, that it had before.
        """
        if node.ino:
            return node.ino if self._nodes.get(node.ino, node) is node else 0
        assert node.source is not None
        device = node.source.layer.device
        if (device, node.born) in self.tree.links:
            return 0
        number = self.numbers.of(device, node.born)
        if number in self._nodes or number == self._of_root or self.lending.has(number):
            return 0
        return number

    def _number(self, node: Node, st: os.stat_result) -> int:
        """Return the number for *node*: its identity's, unless a living node has that."""
        number = self.numbers.of(*(node.identity or (st.st_dev, st.st_ino)))
        if number:
            free = self._nodes.get(number, node) is node and number != self._of_root
            if free and not self.lending.has(number):
                return number
        self._spare += 1
        return self._spare

    def root_number(self) -> int:
        """Return the inode number that the root should show; 0 if it cannot have one of its own.

        No other node has it from now on: after a rebase the directory whose number it is may be
        gone, and a new file have its inode.
        """
        st = self.tree.stat(self.tree.root)
        self._of_root = self.numbers.of(st.st_dev, st.st_ino)
        return self._of_root

    def shown(self, node: Node, times: int = 1) -> None:
        """Count references more that the kernel holds to *node* (a lookup's answer is one)."""
        if not node.nlookup:
            self.lending.shown(node)
            self._nodes[node.ino] = node
        node.nlookup += times

    def told(self, node: Node, times: int) -> None:
        """``shown``, of a node of the extension's, which knows that its number is taken."""
        self._nodes[node.ino] = node
        node.nlookup += times

    def forget(self, ino: int, count: int) -> Node | None:
        """Count *count* references less; what nobody can reach any more is let go.

        Returns the node if it is the last reference that goes.
        """
        node = self._nodes.get(ino) or self.lending.bring(ino)
        if node is None or node.parent is None:
            return None
        node.nlookup -= count
        if node.nlookup > 0:
            return None
        node.nlookup = 0
        del self._nodes[ino]
        self.lending.left(ino)
        node.attr = None
        if node.dead:
            self._generation = generation_after(self._generation)
            self.tree.forget(node)
        elif node.kind == _DIR:
            self.lending.forgotten(node)
            self._unload(node)
        elif not node.is_known:
            let_go(self.tree, self.upper, node)
        return node

    def _unload(self, node: Node) -> None:
        """Drop the children of the directory *node* if they can be read again just the same.

        That is so for lower files: nothing is known of them that the layer and the index do not
        say. Other directories may go on knowing a file by its node.
        """
        children = node.children
        if not children or not node.is_ready or node.in_upper:
            return
        linked = []
        for name, child in children.items():
            if child.nlookup or child.children is not None or child.anchor >= 0:
                return
            if child.identity in self.tree.links:
                linked.append((name, child))
        node.children = None
        node.listing = None
        for name, child in linked:
            child.gone_from(node, name)
            if not child.is_known:
                let_go(self.tree, self.upper, child)


def absent() -> EntryAttributes:
    """Return the answer to a lookup of a name that is not there: to be remembered."""
    attr = EntryAttributes()
    attr.st_ino = 0
    attr.entry_timeout = FOREVER
    return attr


def by_all_accounts(
    before: EntryAttributes, wanted: EntryAttributes, fields: SetattrFields
) -> EntryAttributes:
    """Return what attributes come to by setting *fields* of them as *wanted*; not to be kept."""
    attr = EntryAttributes()
    for name in _SHOWN:
        told = getattr(fields, "update_" + _SETTABLE.get(name, ""), False)
        setattr(attr, name, getattr(wanted if told else before, name))
    attr.st_mode = stat.S_IFMT(before.st_mode) | stat.S_IMODE(attr.st_mode)
    attr.attr_timeout = attr.entry_timeout = 0
    return attr


def bare() -> EntryAttributes:
    """Return an entry for listings that only name a file: the hook takes the rest out."""
    attr = EntryAttributes()
    attr.generation = native.NAME_ONLY
    return attr
