"""Files whose data is in a layer further down: the kernel's ``metacopy`` (overlayfs.rst).

A mount with ``metacopy=on`` copies up an inode without its content: the copy has the size, a hole,
and a mark. Serving it as it is would give zeros. We never write such files, and read them where
somebody else did; a write first brings the data in (``fuse.state.State.own_data``).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from unionfs.ondisk.marks import UnknownMarkError, checked_redirect
from unionfs.syscalls import xattr
from unionfs.union.layer import Layer, Part
from unionfs.union.node import Node
from unionfs.union.tree import Tree

_PLAIN_HEADER = 4  # struct ovl_metacopy: version, length, flags, algorithm; a digest would follow


def layer_of(tree: Tree, node: Node) -> Layer:
    """Return the layer that holds the copy of *node* (no directory) that counts."""
    return node.source.layer if node.source is not None else tree.layers[0]


def is_metacopy(target: int | bytes, layer: Layer) -> bool:
    """Return whether the file *target* of *layer* has its data further down.

    Raises UnknownMarkError for one whose data is to be checked by fs-verity, which we do not.
    """
    mark = layer.flavour.metacopy
    if layer.plain or mark not in xattr.names(target):
        return False
    if len(xattr.get(target, mark) or b"") > _PLAIN_HEADER:
        raise UnknownMarkError("a file's data is to be verified by fs-verity: not supported")
    return True


def open_readable(tree: Tree, node: Node) -> int:
    """Return a descriptor for reading the data of the regular file *node*, wherever it is.

    Raises OSError (EIO if a metacopy's data is missing, or a fifo, say, is where an index has a
    file: nobody waits for that) and UnknownMarkError.
    """
    fd = _opened(tree, node)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            path = os.fsdecode(node.path())
            raise OSError(errno.EIO, "something else has taken its place", path)
        layer = layer_of(tree, node)
        if layer.plain or node.unmarked or not is_metacopy(fd, layer):
            return fd
    except BaseException:
        os.close(fd)
        raise
    return open_data(tree, node, fd)


def _opened(tree: Tree, node: Node) -> int:
    try:
        return tree.open(node, os.O_RDONLY | os.O_NONBLOCK)
    except BlockingIOError:  # somebody has a lease, as on files alone (fcntl(2)): it is waited for
        return tree.open(node, os.O_RDONLY)


def open_data(tree: Tree, node: Node, fd: int) -> int:
    """Return a descriptor for reading the data of *node*, on whose metacopy *fd* is open.

    Closes *fd*. Raises OSError, EIO if the data is not to be found, and UnknownMarkError for a
    redirect that is no path.
    """
    try:
        layer = layer_of(tree, node)
        redirect = checked_redirect(xattr.get(fd, layer.flavour.redirect))
    finally:
        os.close(fd)
    return _search(tree, node, layer, redirect)


def _search(tree: Tree, node: Node, layer: Layer, redirect: bytes | None) -> int:
    """Return a descriptor of the first file below *layer* that has its data itself."""
    parts, name = _below(tree, node, layer, redirect)
    for part in parts:
        try:
            st = os.stat(name, dir_fd=part.fd(), follow_symlinks=False)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(st.st_mode):
            break
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=part.fd())
        try:
            if not is_metacopy(fd, part.layer):
                return fd
            further = checked_redirect(xattr.get(fd, part.layer.flavour.redirect))
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        if further is not None:
            return _search(tree, node, part.layer, further)
    raise OSError(errno.EIO, "a metacopy's data is missing", os.fsdecode(node.path()))


def _below(
    tree: Tree, node: Node, layer: Layer, redirect: bytes | None
) -> tuple[Sequence[Part], bytes]:
    """Return the directories below *layer* to look in, and the name to look for."""
    if redirect is not None and redirect.startswith(b"/"):
        *names, last = redirect[1:].split(b"/")
        parts = [part for part in tree.root.parts if part.layer.number > layer.number]
        for name in names:
            parts = tree.step(parts, name)
        return parts, last
    assert node.parent is not None
    parts = [part for part in node.parent.parts if part.layer.number > layer.number]
    return parts, redirect or node.source_name
