"""The state that all changes of one mount share."""

from __future__ import annotations

import errno
import os

from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.origin import Origin, filesystem_uuid, is_btrfs
from unionfs.syscalls.handle import handle_of
from unionfs.syscalls.settle import settle_on, syncs_all
from unionfs.union.layer import Layer, Part
from unionfs.union.node import Node
from unionfs.union.tree import Tree
from unionfs.upper.work import BadWorkDirError, WorkDir

_NO_HANDLES = frozenset((errno.EOPNOTSUPP, errno.EOVERFLOW, errno.EPERM, errno.ENOSYS))


class Upper:
    """The upper layer of *tree* (its first), with the work directory *work*.

    ``volatile``: nothing is ever synced. ``redirect_dir``: directories with lower parts may be
    renamed by a redirect. ``override`` and ``names`` are the layer's. ``uid`` and ``gid`` are what
    new files get without being asked. ``settle`` makes a copy's data safe before its rename.
    ``syncs_all``: syncfs(2) can be relied on there.
    ``gives_owners``: a copy gets the owner that it is a copy of; not so where nobody is shown it
    and this process could not.
    """

    def __init__(
        self,
        tree: Tree,
        work: WorkDir,
        *,
        volatile: bool = False,
        redirect_dir: bool = True,
        gives_owners: bool = True,
    ) -> None:
        """Check that work and upper directory belong together.

        Raises BadWorkDirError where they are on different filesystems, and OSError.
        """
        self.tree = tree
        self.work = work
        self.layer: Layer = tree.layers[0]
        self.flavour: Flavour = self.layer.flavour
        work.mark = self.flavour.whiteout
        self.override = self.layer.override
        self.names = self.layer.names
        self.volatile = volatile
        self.redirect_dir = redirect_dir
        self.settle = settle_on(self.layer.root.fd())
        self.syncs_all = syncs_all(self.layer.root.fd())
        self.gives_owners = gives_owners
        self.uid = os.geteuid()
        self.gid = os.getegid()
        if work.device != self.layer.device:
            raise BadWorkDirError(
                f"workdir {os.fsdecode(work.path)} and upperdir {os.fsdecode(self.layer.path)}"
                " are on different filesystems"
            )
        self.index_fd = -1  # work/index, opened by index.usable() or index.find()
        self.marks_fd: int | None = None  # work/marks, of upper.beside; -1: there is none
        self.copied_files = self.copied_bytes = 0  # by copy-ups, for the statistics
        # New symbolic links that are files, of which a loss of power may leave the name alone; who
        # mounted this before may have made one. And how many of them are surely on the disk.
        self.links_made, self.links_settled = int(self.override is not None), 0
        self._uuids: dict[int, bytes | None] = {}
        if volatile:
            work.mark_volatile()

    def origin_of(self, directory: Part, name: bytes = b"") -> Origin | None:
        """Return the origin mark for *name* in the lower *directory*, or for itself.

        None where the filesystem has no handles or no UUID: then everything works but inode
        numbers and hard links across remounts. Raises OSError for an error of the disk.
        """
        uuid = self.uuid_of(directory.layer)
        if uuid is None:
            return None
        try:
            return Origin(uuid, handle_of(directory.fd(), name))
        except OSError as error:
            if error.errno in _NO_HANDLES:
                return None
            raise

    def uuid_of(self, layer: Layer) -> bytes | None:
        """Return the UUID of the filesystem of the lower *layer*; None if it says nothing. Cached.

        Nothing too where two lower filesystems have the same one (fs/overlayfs/super.c,
        ovl_lower_uuid_ok()): a handle would be looked for in the wrong one. Subvolumes of one btrfs
        are no two, if handles can be opened: what is remembered where not (``index.lower_stat``)
        does not say which of them a number is of.
        """
        if not self._uuids:
            for each in self.tree.layers[1:]:
                self._uuids.setdefault(each.device, filesystem_uuid(each.root.fd()))
        uuid = self._uuids.get(layer.device)
        if list(self._uuids.values()).count(uuid) == 1:
            return uuid
        opens = self.flavour is Flavour.TRUSTED
        return uuid if opens and is_btrfs(layer.root.fd()) else None

    def part(self, node: Node) -> Part:
        """Return the upper part of the directory *node*, which has one (``copyup.ensure_dir``)."""
        part = self.tree.ready(node)[0]
        assert part.layer is self.layer
        return part

    def go_on(self, fresh: Upper) -> None:
        """Be on the layer and the work directory of *fresh* from now on, which it gives up.

        They are about to be renamed to where the old ones were.
        Its tree has become this one's (``Tree.go_on``); it is on the same filesystem, and spells
        owners in the same way.
        """
        self.leave()
        fresh.layer.path, fresh.work.path = self.layer.path, self.work.path
        self.layer, self.work, self.settle = fresh.layer, fresh.work, fresh.settle
        self.index_fd, self.marks_fd = fresh.index_fd, fresh.marks_fd
        self._uuids = fresh._uuids

    def close(self) -> None:
        """Release what is held; the work directory is left empty and unlocked."""
        self._close_descriptors()
        self.work.close()

    def leave(self) -> None:
        """Release what is held; what is temporary stays, for who is to remove it all."""
        self._close_descriptors()
        self.work.leave()

    def _close_descriptors(self) -> None:
        for fd in (self.index_fd, self.marks_fd):
            if fd is not None and fd >= 0:
                os.close(fd)
        self.index_fd = self.marks_fd = -1
