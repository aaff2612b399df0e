"""Which file a name is: one node for all names of a file, and one number for its whole life.

The number of a file comes from the copy it was born as: of a lower file, the lower's inode number,
before and after copy-up and after a remount (from the origin mark); of a file made in the mount,
the upper's. Directories take the number of their topmost lower part.
"""

from __future__ import annotations

import errno
import os
import stat

from unionfs.ondisk.origin import Origin, decode
from unionfs.syscalls.at import name_path
from unionfs.union.node import Node
from unionfs.union.tree import Tree
from unionfs.upper import beside, index
from unionfs.upper.upper import Upper

_DIR = stat.S_IFDIR


def identify(tree: Tree, upper: Upper | None, node: Node, st: os.stat_result) -> Node:
    """Return the node that stands for the file of *node*, whose attributes are *st*.

    Usually *node*, with its ``identity`` set. For another name of a file that is known already,
    the node of that file; the caller puts it in *node*'s place. Raises OSError.
    """
    if node.identity is not None:
        return node
    if node.kind == _DIR:
        node.identity = _of_directory(upper, node, st)
        return node
    if node.source is not None:
        identity = (st.st_dev, st.st_ino)
        if st.st_nlink > 1 and upper is not None and identity not in tree.links:
            _find_copy(upper, node)  # where that fails it is to be looked for again
        node.identity = identity
        if st.st_nlink == 1:
            return node
    else:
        node.identity = _of_upper(tree, upper, node, st)
        if st.st_nlink == 1 and not node.nlink:
            # The last name may be that of a file that is open under a name that went away.
            return tree.links.get(node.identity, node)
    return tree.links.setdefault(node.identity, node)


def _of_directory(upper: Upper | None, node: Node, st: os.stat_result) -> tuple[int, int]:
    """Return the identity of a directory: its topmost lower part's, else the upper's own.

    One that was cut off from its lower parts (``rename.make_pure``) still has their number. It is
    asked even where its parent is not impure: the kernel takes that mark off when it lists a
    directory that has no other copies.
    """
    lower: os.stat_result | None = None
    if node.parts[0].layer.number != 0:
        return st.st_dev, st.st_ino
    if len(node.parts) > 1:
        lower = os.stat(node.parts[1].fd())
    elif upper is not None and (node.parts[0].opaque or _may_have_origin(node)):
        try:
            lower = _lower_stat(upper, node, node.parts[0].fd())
        except PermissionError:  # an ordinary user's own, closed to himself: nobody sees its marks
            pass
    return (lower.st_dev, lower.st_ino) if lower else (st.st_dev, st.st_ino)


def _of_upper(tree: Tree, upper: Upper | None, node: Node, st: os.stat_result) -> tuple[int, int]:
    """Return the identity of an upper file: its origin's if it has one that can be reached.

    A copy of a lower file that has other names is that file only if the index says so.
    """
    own = (st.st_dev, st.st_ino)
    if upper is None or (st.st_nlink == 1 and not _may_have_origin(node)):
        return own  # a file linked elsewhere may be a copy from there
    copy = name_path(*tree.place(node))
    origin = _origin(upper, copy)
    lower = _lower_stat(upper, node, copy)
    if lower is None or origin is None:
        return own
    entry = index.entry(upper, origin) if st.st_nlink > 1 else None
    if entry is not None and os.path.samestat(entry, st):
        index.lead_through(upper, node, origin, st)
    elif lower.st_nlink > 1:
        return own  # the index is lost: two names might be copies, each with content of its own
    return lower.st_dev, lower.st_ino


def _origin(upper: Upper, copy: int | bytes) -> Origin | None:
    return decode(beside.get(upper, copy, upper.flavour.origin))


def _lower_stat(upper: Upper, node: Node, copy: int | bytes) -> os.stat_result | None:
    """Return the attributes of the lower file that *copy*, the file of *node*, was copied from."""
    origin = _origin(upper, copy)
    lower = index.lower_stat(upper, origin, copy) if origin else None
    if lower is None or stat.S_IFMT(lower.st_mode) == node.kind or upper.override is not None:
        return lower
    return None


def _may_have_origin(node: Node) -> bool:
    """Only directories marked impure hold copies, and what is made here is none."""
    if node.unmarked:
        return False
    return node.parent is not None and node.parent.parts[0].impure


def _check_type(upper: Upper, node: Node, entry: os.stat_result) -> None:
    """Raise EIO unless *entry* can be a copy of *node*: fs/overlayfs/namei.c, ovl_lookup_index().

    Anything else has taken the copy's place in the index. To show the lower file would be to show
    old content as if nothing had been lost.
    """
    on_disk = node.kind if upper.override is None else stat.S_IFREG
    if stat.S_IFMT(entry.st_mode) not in (node.kind, on_disk):
        path = os.fsdecode(node.path())
        raise OSError(errno.EIO, "the index has something else in place of its copy", path)


def _find_copy(upper: Upper, node: Node) -> None:
    """If the lower file *node*, which has several names, was copied up before: be the copy."""
    assert node.source is not None
    origin: Origin | None = None
    if upper.index_fd >= 0 or upper.work.has_index():
        origin = upper.origin_of(node.source, node.source_name)
    if origin is None:
        return
    entry = index.entry(upper, origin)
    if entry is not None:
        _check_type(upper, node, entry)
        index.lead_through(upper, node, origin, entry)
        node.source = None
