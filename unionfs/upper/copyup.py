"""Copy-up: giving a lower file its copy in the upper.

A directory's copy is empty and merges with its lower parts. Any other file's copy has everything:
content (holes kept), owner, mode, attributes, ACLs, times. The node stays the same object
throughout, so everybody who has the file open goes on with the right bytes.

A file with several names in its layer is copied once: the copy gets a name in the work directory's
index (``index.py``), and every name that is changed from then on is a link of it.
"""

from __future__ import annotations

import os
import stat

from unionfs.syscalls import xattr
from unionfs.syscalls.at import exists, name_path, open_dir
from unionfs.syscalls.copy import KeepGoing, copy_data
from unionfs.union import metacopy, protection
from unionfs.union.layer import Part
from unionfs.union.node import Node
from unionfs.upper import index
from unionfs.upper.attributes import IsMember, drop_set_id
from unionfs.upper.metadata import copy_flags, copy_to_fd, copy_xattrs, mark_protected
from unionfs.upper.upper import Upper
from unionfs.upper.work import clear_away

_HOLD = os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW
_SMALL = 1 << 20  # bytes of a file that is taken for one without holes where it has all its blocks
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def ensure_dir(upper: Upper, node: Node) -> Part:
    """Return the upper part of the directory *node*, copying it and its parents up if need be.

    Raises OSError; parents that were copied stay, which nobody can see.
    """
    above = node.upper_part()
    if above is not None:
        return above
    upper.tree.ready(node)
    missing = [node]
    parent = node.parent
    while parent is not None and not parent.in_upper:
        missing.append(parent)
        parent = parent.parent
    for each in reversed(missing):
        _copy_dir(upper, each)
    return node.parts[0]


def _copy_dir(upper: Upper, node: Node) -> None:
    """Make the upper directory of *node*, whose parent has one already."""
    assert node.parent is not None
    above = upper.part(node.parent)
    lower = upper.tree.ready(node)[0]
    work = upper.work
    temporary = work.temporary()
    os.mkdir(temporary, 0o700, dir_fd=work.fd)
    try:
        fd = open_dir(work.fd, temporary)
        try:
            origin = upper.origin_of(lower)
            index.mark_origin(upper, fd, origin, os.fstat(lower.fd()))
            _copy_dir_metadata(upper, node, lower, fd)
            _publish(upper, temporary, above, node.name, impure=origin is not None)
        except BaseException:
            os.close(fd)
            raise
    except BaseException:
        clear_away(work.fd, temporary)
        raise
    part = Part(upper.layer, above, node.name, upper.tree.pool)
    part.adopt(fd)
    node.parts.insert(0, part)
    node.attr = None


def _copy_dir_metadata(upper: Upper, node: Node, lower: Part, fd: int) -> None:
    mark_protected(upper, fd, protection.of(upper.tree, node))
    copy_to_fd(upper, lower.fd(), lower.layer, fd, upper.tree.stat_of(lower))
    copy_flags(lower.fd(), fd)


def copy_removed_dir(upper: Upper, node: Node) -> None:
    """Give the removed lower directory *node* a nameless copy, so that changes do not reach the
    layer: somebody has it open and changes its attributes. Raises OSError.
    """
    if node.in_upper:
        return
    work, temporary = upper.work.fd, upper.work.temporary()
    os.mkdir(temporary, 0o700, dir_fd=work)
    try:
        fd = open_dir(work, temporary)
        try:
            lower = upper.tree.ready(node)[0]
            _copy_dir_metadata(upper, node, lower, fd)
            held = os.open(temporary, _HOLD, dir_fd=work)
        finally:
            os.close(fd)
    finally:
        os.rmdir(temporary, dir_fd=work)
    os.close(node.anchor)
    node.anchor = held
    node.parts = [Part(upper.layer, upper.layer.root, temporary, upper.tree.pool)]
    node.attr = None


def _publish(upper: Upper, temporary: bytes, above: Part, name: bytes, *, impure: bool) -> None:
    """Rename *temporary* to *name* in *above*, whose times stay: a copy-up changes no directory."""
    fd = above.fd()
    before = os.fstat(fd)
    if impure and not above.impure:
        xattr.set_(fd, upper.flavour.impure, b"y")
        above.impure = True
    os.rename(temporary, name, src_dir_fd=upper.work.fd, dst_dir_fd=fd)
    keep_times(fd, before)


def keep_times(fd: int, before: os.stat_result) -> None:
    """Set the times of the directory *fd* back after a change that does not show.

    If that can be done: the change itself is done.
    """
    try:
        os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
    except OSError:
        pass


def copy_up(upper: Upper, node: Node) -> None:
    """Copy up *node* (anything; nothing to do if it is in the upper), content included.

    Blocks for as long as the copying takes: for large files use ``FileCopy``. Raises OSError.
    """
    if node.is_dir:
        ensure_dir(upper, node)
    elif node.source is not None:
        copy = FileCopy(upper, node)
        try:
            copy.copy()
            copy.commit()
        finally:
            copy.close()


class Cut:
    """A truncation that a copy-up is for: to ``size`` bytes, with ``kill`` and ``named`` as for
    ``truncate``.

    ``made`` tells afterwards whether the copy was published that short, in one step. Where it was
    not, the copy is whole and the truncation is still to be done: the file was copied by somebody
    else or does not get shorter, or it has several names, and so is published in two steps.
    """

    __slots__ = ("kill", "made", "named", "size")

    def __init__(self, size: int, *, kill: IsMember | None, named: bool = False) -> None:
        self.size = size
        self.kill = kill
        self.named = named
        self.made = False


class FileCopy:
    """One copy-up of a file that is no directory, in three steps.

    ``copy`` may run in a thread; the others belong to the thread that owns the tree. ``close``
    must follow in any case. ``size`` (bytes) says how much there is to copy.
    """

    def __init__(self, upper: Upper, node: Node, *, cut: Cut | None = None) -> None:
        """Start copying *node*, cut if that can be.

        Raises OSError; nothing is then left behind.
        """
        assert node.source is not None
        self.upper = upper
        self.node = node
        self._temporary = upper.work.temporary()
        self._published = False
        self._stat = upper.tree.stat_at(node.source, node.source_name)
        self._origin = upper.origin_of(node.source, node.source_name)
        self._protection = protection.of(upper.tree, node)
        self._source = self._target = -1
        self._cut: Cut | None = None
        self.size = 0
        if node.kind == stat.S_IFREG:
            self.size = self._stat.st_size
            if cut is not None and cut.size < self.size and self._stat.st_nlink == 1:
                self._cut = cut
                self.size = cut.size
            self._source = metacopy.open_readable(upper.tree, node)
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        """Make the copy under its temporary name, empty but for the text of a link."""
        work, st = self.upper.work.fd, self._stat
        stands_for = self.upper.override is not None  # whatever it shows, on disk it is a file
        if stands_for or stat.S_ISREG(st.st_mode):
            self._target = os.open(self._temporary, _CREATE, 0o600, dir_fd=work)
        if stat.S_ISLNK(st.st_mode):
            assert self.node.source is not None
            text = self.upper.tree.readlink_at(self.node.source, self.node.source_name)
            if stands_for:
                os.write(self._target, text)
                self.size = len(text)
            else:
                os.symlink(text, self._temporary, dir_fd=work)
        elif self._target < 0:
            os.mknod(self._temporary, stat.S_IFMT(st.st_mode) | 0o600, st.st_rdev, dir_fd=work)

    def copy(self, keep_going: KeepGoing | None = None) -> None:
        """Copy the content and settle it (``syscalls.settle``), unless volatile. Safe in a thread.

        That comes before the rename that publishes, so that a copied-up file is never short or
        empty after a power loss. Raises OSError.
        """
        if not self.size:
            return
        if self._source >= 0:  # else it is a link's text, which is there
            sparse = self._stat.st_size > _SMALL or self._stat.st_blocks * 512 < self._stat.st_size
            copy_data(self._source, self._target, self.size, sparse=sparse, keep_going=keep_going)
        if not self.upper.volatile:
            self.upper.settle(self._target)

    def commit(self) -> None:
        """Give the copy its metadata and put it in the file's place. Raises OSError."""
        node = self.node
        assert node.source is not None
        self._copy_metadata(node.source)
        if node.dead:
            self._keep_unnamed()
        elif self._stat.st_nlink > 1:
            self._publish_linked()
        else:
            self._publish_single()
        node.source = None
        node.attr = None
        self.upper.copied_files += 1
        self.upper.copied_bytes += self.size
        if self._cut is not None:
            self._cut.made = True

    def _copy_metadata(self, source: Part) -> None:
        upper, node, st = self.upper, self.node, self._stat
        path = name_path(source.fd(), node.source_name)
        copy = name_path(upper.work.fd, self._temporary)
        target: int | bytes = copy
        if self._target >= 0:
            target = self._target
            cut = self._cut
            written = os.fstat(target).st_mtime_ns if cut else 0  # by the filesystem's clock
            index.mark_origin(upper, target, self._origin, st)
            copy_to_fd(upper, path, source.layer, self._target, st)
            mark_protected(upper, target, self._protection)
            if self._source >= 0:
                copy_flags(self._source, self._target)
            if cut is not None:
                drop_set_id(upper, self._target, cut.kill)
                os.utime(self._target, ns=(st.st_atime_ns, written))
            return
        if upper.gives_owners:
            os.chown(copy, st.st_uid, st.st_gid, follow_symlinks=False)
        index.mark_origin(upper, target, self._origin, st)
        copy_xattrs(path, source.layer.names, copy, upper.names)
        mark_protected(upper, copy, self._protection)
        if not stat.S_ISLNK(st.st_mode):
            os.chmod(self._temporary, stat.S_IMODE(st.st_mode), dir_fd=upper.work.fd)
        os.utime(copy, ns=(st.st_atime_ns, st.st_mtime_ns), follow_symlinks=False)

    def _keep_unnamed(self) -> None:
        """The name went away while we copied: keep the copy by descriptor only."""
        lower = self.node.anchor
        self.node.anchor = os.open(self._temporary, _HOLD, dir_fd=self.upper.work.fd)
        if lower >= 0:
            os.close(lower)

    def _publish_single(self) -> None:
        node = self.node
        assert node.parent is not None
        above = ensure_dir(self.upper, node.parent)
        impure = self._origin is not None
        _publish(self.upper, self._temporary, above, node.name, impure=impure)
        self._published = True

    def _publish_linked(self) -> None:
        """Publish the copy of a file with several names: first where all lead, then at its name."""
        upper, node = self.upper, self.node
        assert node.parent is not None
        above = ensure_dir(upper, node.parent)
        links = node.nlink or self._stat.st_nlink
        hidden = upper.work.fd, self._temporary
        if self._origin is not None and index.usable(upper, node):
            index.write_nlink(upper, name_path(*hidden), links - 1)
            index.insert(upper, self._temporary, self._origin)
            hidden = upper.index_fd, self._origin.index_name()
        self._published = True
        node.hidden = hidden
        node.source = None
        node.nlink = links
        link_up(upper, node, above, node.name)

    def take(self) -> int:
        """Hand over the descriptor (read and write) of the copy, -1 for what has no content."""
        fd, self._target = self._target, -1
        return fd

    def close(self) -> None:
        """Release the descriptors, and the copy if it was not published."""
        for fd in (self._source, self._target):
            if fd >= 0:
                os.close(fd)
        self._source = self._target = -1
        if not self._published:
            clear_away(self.upper.work.fd, self._temporary)
            self._published = True


def link_up(upper: Upper, node: Node, above: Part, name: bytes) -> None:
    """Make *name* in *above* a link of the copy of *node*, where so far a lower name shows.

    The count of names in the union does not change; the directory's times stay. Raises OSError.
    """
    temporary = upper.work.temporary()
    index.pin_to_lower(upper, node)
    index.link_node(upper, node, upper.work.fd, temporary)
    try:
        _publish(upper, temporary, above, name, impure=True)
    except BaseException:
        clear_away(upper.work.fd, temporary)
        raise


def ensure_name(upper: Upper, node: Node, parent: Node, name: bytes) -> Part:
    """Make sure that the upper has *name* in *parent*, as a name of *node*, which is copied up.

    For verbs that move or remove a name. Returns the parent's upper part. Raises OSError.
    """
    above = ensure_dir(upper, parent)
    if node.nlink and not exists(above.fd(), name):
        link_up(upper, node, above, name)
    return above
