"""What chattr(1) changes of a file in the upper: flags of its inode, and the mark that protects it.

As ovl_fileattr_set() does it: an immutable inode could be neither marked nor renamed, so that and
append-only are said by ``overlay.protattr`` (``ondisk.protattr``), and all else by the inode.
"""

from __future__ import annotations

import errno

from unionfs.ondisk import protattr
from unionfs.syscalls import flags, xattr
from unionfs.union import protection
from unionfs.union.node import Node
from unionfs.union.tree import Tree
from unionfs.upper.upper import Upper


def shown(tree: Tree, node: Node, fd: int, command: int) -> bytes:
    """Return what *command* (``flags.READING``) says of *node*, open on *fd*. Raises OSError."""
    found = flags.ask(fd, command)
    return flags.joined(command, found, protection.of(tree, node))


def change(upper: Upper, node: Node, fd: int, command: int, wanted: bytes) -> None:
    """Give *node*, which is in the upper and open on *fd*, what the structure *wanted* says.

    *command* is one of ``flags.CHANGING``. Raises OSError; nothing is changed then.
    """
    inode, protected = flags.split(command, wanted)
    reading = flags.READING[flags.CHANGING.index(command)]
    before = flags.ask(fd, reading)
    flags.tell(fd, command, inode)
    try:
        _mark(upper, node, protected)
    except BaseException:
        flags.tell(fd, command, before)
        raise
    node.protection = protected
    if node.is_dir and not node.dead:
        upper.part(node).passed_on = None


def _mark(upper: Upper, node: Node, protected: int) -> None:
    """Write the mark, or remove it. Raises OSError; EPERM where the upper takes no marks."""
    target, name = upper.tree.target(node), upper.flavour.protattr
    if protected:
        xattr.set_(target, name, protattr.encode(protected))
        return
    try:
        xattr.remove(target, name)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
