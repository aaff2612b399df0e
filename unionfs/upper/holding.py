"""Keeping hold of a file through changes of its names, at no descriptor each.

A file that loses its last name while the kernel refers to it is held by a descriptor
(``Node.anchor``), as many as programs have open. One that has other names needs none: it is found
at another name that is known, at its place in the index, or at a name that is given to it in the
work directory (``index.keep``) for as long as none of its others has been looked up.
"""

from __future__ import annotations

import os
import stat

from unionfs.union.layer import Part
from unionfs.union.node import Node
from unionfs.union.tree import Tree
from unionfs.upper import beside, index
from unionfs.upper.upper import Upper

_HOLD = os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW


def nothing_to_tell() -> None:
    """Nobody waits for the moment when a name has changed on the disk."""


def is_needed(node: Node, parent: Node, name: bytes) -> bool:
    """Return whether *node*, which is to lose *name* in *parent*, may have no other place then."""
    if node.hidden is not None:
        return node.nlink < 2
    return node.parent is parent and node.name == name and not node.also


class held:  # in place of a function: a generator costs three times as much
    """Keep hold of the file of *node* beyond its name, which goes in the ``with`` block.

    A lower file needs no hold: it stays where it is, whatever hides it. (A directory does, whose
    parts may be asked for anew.) Where the block fails the name stays, and the hold goes again: it
    would reach a lower directory even after a copy-up. *fd*: the file is open on it, which is to
    stay so; that spares looking for it. Raises OSError.
    """

    __slots__ = ("_node",)

    def __init__(self, upper: Upper, node: Node, *, needed: bool = True, fd: int = -1) -> None:
        self._node: Node | None = None
        is_dir = node.kind == stat.S_IFDIR
        if not needed or node.anchor >= 0 or not (is_dir or node.source is None):
            return
        if is_dir:
            node.anchor = _hold_dir(upper.tree.ready(node)[0])
        elif fd >= 0:
            node.anchor = os.dup(fd)
        else:
            node.anchor = upper.tree.open(node, os.O_PATH)
        self._node = node

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None and self._node is not None:
            self._node.let_anchor_go()


def _hold_dir(part: Part) -> int:
    """Open *part*, which is no layer's root, by its name: its own user may be kept out of it."""
    assert part.parent is not None
    return os.open(part.name, _HOLD | os.O_DIRECTORY, dir_fd=part.parent.fd())


def name_gone(upper: Upper, node: Node, parent: Node, name: bytes) -> None:
    """Account for one name less of *node*: *name* in *parent*, whose directory entry is gone."""
    node.attr = None
    node.gone_from(parent, name)
    if node.nlink:
        # A name that is known stays, whatever the mark of the count says (ovl_drop_nlink()).
        node.nlink = max(node.nlink - 1, int(node.is_known))
        node.dead = node.nlink == 0
        if node.dead:
            index.drop(upper, node)
    elif node.source is not None:
        node.dead = True
    elif node.anchor >= 0:
        node.dead = _had_one_name(upper, node) or _is_nameless(node.anchor)
        if node.dead:
            beside.forget(upper, node.anchor)
    if node.dead:
        if not node.nlookup:
            upper.tree.forget(node)
    elif not node.nlookup and not node.is_known:
        let_go(upper.tree, upper, node)
    elif node.anchor >= 0:
        _keep_without_anchor(upper, node)


def _keep_without_anchor(upper: Upper, node: Node) -> None:
    """Give *node*, which has other names, a place to be found at, and close its anchor."""
    if node.hidden is None and not node.is_known:
        try:
            index.keep(upper, node)
            node.nlink = os.stat(node.anchor).st_nlink - 1
        except OSError:
            return  # no more links, or no room for one: the descriptor is as good
    node.let_anchor_go()


def take_place(upper: Upper | None, parent: Node, name: bytes, node: Node) -> None:
    """Let *name* in *parent* lead to *node*, which turned out to be the file of that name."""
    assert parent.children is not None
    parent.children[name] = node
    node.found_at(parent, name)
    settle(upper, node)


def settle(upper: Upper | None, node: Node) -> None:
    """Let *node*, to which a loaded directory leads (``found_at``), do without another hold.

    Nothing changes where that may be a name in a lower layer.
    """
    if upper is None or node.dead or node.source is not None:
        return
    kept = index.is_kept(upper, node)
    if not (kept or node.anchor >= 0) or (kept and _has_lower_names(upper, node)):
        return
    if kept:
        index.unkeep(upper, node)
        node.nlink = 0
    node.let_anchor_go()


def let_go(tree: Tree, upper: Upper | None, node: Node) -> None:
    """Forget the file *node*, to which neither the kernel nor a loaded directory leads any more.

    Whoever looks one of its names up will find it on the disk; but for a copy that only this
    mount knows to be one (``index.keep`` of a lower file's): that stays.
    """
    assert not node.nlookup
    assert not node.is_known
    if node.hidden is not None and upper is not None and index.is_kept(upper, node):
        if _has_lower_names(upper, node):
            return
        index.unkeep(upper, node)
    tree.forget(node)


def _has_lower_names(upper: Upper, node: Node) -> bool:
    """Return whether *node*, which has a name of its own in work, has names in lower layers."""
    try:
        return node.nlink >= upper.tree.stat(node).st_nlink
    except OSError:
        return True  # keeping it is safe


def _had_one_name(upper: Upper, node: Node) -> bool:
    """Return whether it is known without asking that *node* had no name but that which is gone.

    That is so of a file that was made in this mount and never got another (``create.make_link``).
    """
    return node.unmarked and node.identity is not None and node.identity not in upper.tree.links


def _is_nameless(fd: int) -> bool:
    try:
        return os.stat(fd).st_nlink == 0
    except OSError:
        return False  # the name is gone all the same; its file is let go at the end of the mount
