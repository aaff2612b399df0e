"""Hard links across copy-up: the work directory's index, as the kernel keeps it.

A lower file with several names is copied up once. Its copy is in ``workdir/index`` under the name
that its origin spells (``Origin.index_name``), and every upper name of it is a link of that entry.
A lower name whose file has an entry *is* the entry. The count of names in the union is on the copy,
in ``overlay.nlink``, relative to the copy's own count (``U+1``) or to the lower file's (``L-2``):
whichever does not change by the step that follows, so that a crash leaves it right
(fs/overlayfs/util.c, ovl_nlink_start(); fs/overlayfs/copy_up.c, ovl_link_up()).

The kernel keeps no index in a user namespace; we do there as well, for ourselves. Where none can be
had (filesystems without file handles) the names share a node for as long as the mount lives, whose
copy has a name in the work directory (``keep``).

Either way the file of such a node is reached by a name outside the tree, ``Node.hidden``, that no
change of the tree's names touches.
"""

from __future__ import annotations

import errno
import os
import re
import stat

from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.origin import Origin, decode
from unionfs.syscalls import xattr
from unionfs.syscalls.at import link_fd, name_path
from unionfs.syscalls.handle import open_handle
from unionfs.union.layer import Layer
from unionfs.union.node import UNKNOWN, Node
from unionfs.upper import beside
from unionfs.upper.upper import Upper
from unionfs.upper.work import clear_away

_COUNT = re.compile(rb"([LU])([+-]\d{1,9})")
_BORN = re.compile(rb"(\d{1,20}):(\d{1,10}):([0-7]{1,6})")
_UNREACHABLE = frozenset(
    (errno.ESTALE, errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT, errno.EACCES)
)


def usable(upper: Upper, node: Node) -> bool:
    """Return whether *node* can be indexed in this upper; makes the index the first time.

    The count of names of a symbolic link or a special file may have to be beside it.
    """
    says_it_itself = (
        upper.flavour is Flavour.TRUSTED or node.kind == stat.S_IFREG or upper.override is not None
    )
    if not (says_it_itself or beside.usable(upper)):
        return False
    if upper.index_fd < 0:
        upper.index_fd = upper.work.open_index()
    return True


def entry(upper: Upper, origin: Origin) -> os.stat_result | None:
    """Return the attributes of the copy of the lower file *origin*, None if there is none.

    Raises OSError.
    """
    if not _opened(upper):
        return None
    try:
        return os.stat(origin.index_name(), dir_fd=upper.index_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def lead_through(upper: Upper, node: Node, origin: Origin, st: os.stat_result) -> None:
    """Let *node* be the copy of *origin*, whose attributes are *st*. Raises OSError."""
    place = upper.index_fd, origin.index_name()
    node.nlink = read_nlink(upper, name_path(*place), st.st_nlink)
    node.hidden = place
    node.protection = UNKNOWN


def _opened(upper: Upper) -> bool:
    """Return whether there is an index, opened now if it was not."""
    if upper.index_fd < 0 and upper.work.has_index():
        upper.index_fd = upper.work.open_index()
    return upper.index_fd >= 0


def insert(upper: Upper, temporary: bytes, origin: Origin) -> None:
    """Publish the copy *temporary* (in the work directory) as the one of *origin*."""
    name = origin.index_name()
    os.rename(temporary, name, src_dir_fd=upper.work.fd, dst_dir_fd=upper.index_fd)


def link_node(upper: Upper, node: Node, dir_fd: int, name: bytes) -> None:
    """Make *name* in *dir_fd* a link of the upper file of *node*. Raises OSError."""
    if node.anchor >= 0:
        link_fd(node.anchor, dir_fd, name)
    else:
        directory, old = upper.tree.place(node)
        os.link(old, name, src_dir_fd=directory, dst_dir_fd=dir_fd, follow_symlinks=False)


def write_nlink(upper: Upper, copy: int | bytes, above_upper: int) -> None:
    """Write on the file *copy* that the union has *above_upper* more names than the file."""
    beside.set_(upper, copy, upper.flavour.nlink, b"U%+d" % above_upper)


def pin_to_upper(upper: Upper, node: Node) -> None:
    """Before a change of both counts by one (link, unlink): note their difference.

    Nothing to do for a file without an index entry. Raises OSError.
    """
    if not node.nlink or not is_indexed(upper, node):
        return
    real = upper.tree.stat(node).st_nlink
    write_nlink(upper, upper.tree.target(node), node.nlink - real)


def pin_to_lower(upper: Upper, node: Node) -> None:
    """Before a link that the union does not count: note the difference to the lower's count."""
    if not node.nlink or not is_indexed(upper, node):
        return
    copy = upper.tree.target(node)
    origin = decode(beside.get(upper, copy, upper.flavour.origin))
    lower = _lower_nlink(upper, origin, copy) if origin else None
    if lower is not None:
        beside.set_(upper, copy, upper.flavour.nlink, b"L%+d" % (node.nlink - lower))
    else:
        # Without CAP_DAC_READ_SEARCH the lower file is out of reach: say what will be true.
        write_nlink(upper, copy, node.nlink - upper.tree.stat(node).st_nlink - 1)


def keep(upper: Upper, node: Node) -> None:
    """Give the upper file of *node*, which has names that the tree does not know, one in work.

    For a file without an index entry. The name goes with the mount, or before (``let_go``).
    Raises OSError.
    """
    name = upper.work.temporary()
    link_node(upper, node, upper.work.fd, name)
    node.hidden = upper.work.fd, name


def unkeep(upper: Upper, node: Node) -> None:
    """Remove the name that ``keep`` gave *node*."""
    assert node.hidden is not None
    clear_away(*node.hidden)
    node.hidden = None


def is_kept(upper: Upper, node: Node) -> bool:
    """Return whether *node* has a name from ``keep``."""
    return node.hidden is not None and node.hidden[0] == upper.work.fd


def is_indexed(upper: Upper, node: Node) -> bool:
    """Return whether the upper file of *node* has an entry in the index."""
    return node.hidden is not None and node.hidden[0] == upper.index_fd


def _lower_nlink(upper: Upper, origin: Origin, copy: int | bytes) -> int | None:
    st = lower_stat(upper, origin, copy)
    return st.st_nlink if st else None


def lower_stat(upper: Upper, origin: Origin, copy: int | bytes) -> os.stat_result | None:
    """Return the attributes of the lower file that *origin*, the mark of *copy*, names.

    None if it cannot be reached. The handle is tried on the lower filesystem whose UUID it carries.
    That needs CAP_DAC_READ_SEARCH; without it the mark ``born`` has what counts: device, number,
    links, type. Raises OSError for an error of the disk.
    """
    for layer in upper.tree.layers[1:]:
        if upper.uuid_of(layer) != origin.uuid:
            continue
        try:
            fd = open_handle(layer.root.fd(), origin.handle)
        except OSError as error:
            if error.errno == errno.EPERM:
                return _remembered(upper, layer, copy)
            if error.errno in _UNREACHABLE:
                return None
            raise
        try:
            return os.stat(fd)
        finally:
            os.close(fd)
    return None


def _remembered(upper: Upper, layer: Layer, copy: int | bytes) -> os.stat_result | None:
    found = _BORN.fullmatch(beside.get(upper, copy, upper.flavour.born) or b"")
    if found is None:
        return None
    ino, nlink, kind = int(found[1]), int(found[2]), int(found[3], 8)
    return os.stat_result((kind, ino, layer.device, nlink, 0, 0, 0, 0, 0, 0))


def mark_origin(
    upper: Upper, target: int | bytes, origin: Origin | None, st: os.stat_result
) -> None:
    """Write down which lower file, with attributes *st*, *target* is a copy of.

    Where the filesystem can keep it; else the file has another inode number after a remount.
    Raises OSError.
    """
    if origin is None:
        return
    try:
        beside.set_(upper, target, upper.flavour.origin, origin.encode())
        if upper.flavour is Flavour.USER:  # the handle may be of no use the next time
            born = b"%d:%d:%o" % (st.st_ino, st.st_nlink, stat.S_IFMT(st.st_mode))
            beside.set_(upper, target, upper.flavour.born, born)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            raise


def copy_origin(upper: Upper, source: bytes, target: int) -> None:
    """Give *target*, which takes the place of *source* in the upper, its origin. Raises OSError."""
    for name in (upper.flavour.origin, upper.flavour.born):
        value = xattr.get(source, name)
        if value is not None:
            xattr.set_(target, name, value)


def read_nlink(upper: Upper, copy: int | bytes, real: int) -> int:
    """Return how many names the union has for the indexed file *copy* with *real* links.

    0 if nothing is written down there (then the file's own count is the count).
    """
    value = beside.get(upper, copy, upper.flavour.nlink)
    found = _COUNT.fullmatch(value) if value else None
    if not found:
        return 0
    base: int | None = real
    if found[1] == b"L":
        origin = decode(beside.get(upper, copy, upper.flavour.origin))
        base = _lower_nlink(upper, origin, copy) if origin else None
        if base is None:
            return 0
    assert base is not None
    return max(base + int(found[2]), 0)


def drop(upper: Upper, node: Node) -> None:
    """Remove the hidden name of *node*, whose last name in the union is gone.

    Where that fails it stays, as after a crash: no name leads to it.
    """
    if node.hidden is not None:
        beside.forget(upper, name_path(*node.hidden))
        clear_away(*node.hidden)
        node.hidden = None
