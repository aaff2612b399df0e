"""A layer, and the directories of a layer that contribute to merged directories."""

from __future__ import annotations

import errno
import fcntl
import os
from array import array
from collections import deque
from collections.abc import Callable, Sequence

from unionfs.errors import NotFoundError
from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.marks import DirMarks, UnknownMarkError, read_dir_marks
from unionfs.ondisk.override import AttributeNames, Spelling, names_in
from unionfs.syscalls.at import open_beneath, open_dir

_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LEAST = 64
AT_ONCE = 128  # directories of a name that are looked ahead at: an opaque one ends the search
_MANY = 8  # fewer are not worth the threads


class BadLayerError(NotFoundError):
    """A layer's directory is missing or cannot be read."""


class Layer:
    """One directory of the stack.

    ``number`` is 0 for the upper and counts lowers from 1, topmost first. ``aufs`` says that names
    beginning with ``.wh.`` are whiteouts here. ``plain`` promises that no directory below carries a
    redirect and no file is a metacopy (layers of our own store), which saves looking. ``override``
    says in which attribute owners, modes and types are, None: where files have them; ``names`` what
    attributes are called here.
    """

    __slots__ = (
        "aufs",
        "device",
        "flavour",
        "names",
        "number",
        "override",
        "path",
        "plain",
        "root",
    )

    def __init__(
        self,
        path: bytes,
        number: int,
        flavour: Flavour,
        pool: FdPool,
        *,
        aufs: bool = False,
        plain: bool = False,
    ) -> None:
        """Open the directory *path* (resolved once, by the kernel, following links).

        Raises BadLayerError if it is missing, no directory or unreadable.
        """
        self.path = path
        self.number = number
        self.flavour = flavour
        self.aufs = aufs
        self.plain = plain
        self.override: Spelling | None = None
        self.names: AttributeNames = flavour
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            what = "upperdir" if number == 0 else "lowerdir"
            raise BadLayerError(f"{what} {os.fsdecode(path)}: {error.strerror}") from None
        self.device = os.fstat(fd).st_dev
        self.root = Part(self, None, b"", pool)
        self.root.held = fd

    def keep_owners_as(self, spelling: Spelling) -> None:
        """From now on owners, modes and types are in this attribute; before the first look."""
        self.override = spelling
        self.names = names_in(self.flavour, spelling)

    def hold(self) -> None:
        """Say with a shared flock, until ``close``, that this layer of a store is in use.

        Raises BadLayerError if it is being removed from there.
        """
        try:
            fcntl.flock(self.root.held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            path = os.fsdecode(self.path)
            raise BadLayerError(f"lowerdir {path} is being removed from its store") from None

    def close(self) -> None:
        """Close the layer's root; parts opened from it are the pool's."""
        if self.root.held >= 0:
            os.close(self.root.held)
            self.root.held = -1


class FdPool:
    """The open directory descriptors of all parts: at most *limit*, least recently used closed.

    A descriptor that ``Part.fd`` returned stays open for the next ``limit // 2`` calls at least, so
    an operation may use several at a time, but it is not to be kept across an ``await``.

    ``warm_up`` has the directories of a name, in the directories open on an array of descriptors,
    read from the disk side by side (None: nobody does).
    """

    __slots__ = ("_open", "clock", "limit", "warm_up")

    def __init__(self, limit: int) -> None:
        self.limit = max(limit, _LEAST)
        self.clock = 0
        self._open: deque[Part] = deque()
        self.warm_up: Callable[[bytes, array[int]], object] | None = None

    def add(self, part: Part) -> None:
        """Note that *part* has just been opened, and close others if there are too many."""
        self._open.append(part)
        while len(self._open) > self.limit:
            oldest = self._open.popleft()
            if oldest.held < 0:
                continue
            if self.clock - oldest.stamp < self.limit // 2:
                self._open.append(oldest)  # at most half of them can be this recent
                continue
            os.close(oldest.held)
            oldest.held = -1

    def look_ahead(self, parents: Sequence[Part], name: bytes) -> None:
        """Have the directories called *name* in *parents* in the kernel's caches, if that pays."""
        if self.warm_up is None or len(parents) < _MANY:
            return
        try:
            fds = [part.fd() for part in parents[: self.limit // 2]]
            self.warm_up(name, array("i", fds))
        except OSError:
            pass  # whoever looks there is told

    def drop(self, layer: Layer) -> None:
        """Close the descriptors of the parts of *layer*."""
        for part in self._open:
            if part.layer is layer:
                part.drop()

    def close(self) -> None:
        """Close every descriptor."""
        for part in self._open:
            part.drop()
        self._open.clear()


class Part:
    """A directory of one layer; several of them, topmost first, make a merged directory.

    ``parent`` and ``name`` say where it is in its layer; a rename in the upper changes them, and
    nothing else ever does. ``held`` is the open descriptor or -1; ``stamp`` the pool's clock at its
    last use. ``whiteout_files``, ``impure``, ``opaque`` and ``redirect`` are its marks
    (``ondisk.marks``), known once ``Tree.ready`` looked for them. ``default_acl`` says whether new
    files here inherit an ACL (acl(5)), ``passed_on`` which flags (chattr(1)), None: not known; for
    the upper only, which alone gets any.
    """

    __slots__ = (
        "default_acl",
        "held",
        "impure",
        "layer",
        "name",
        "opaque",
        "parent",
        "passed_on",
        "pool",
        "redirect",
        "stamp",
        "whiteout_files",
    )

    def __init__(self, layer: Layer, parent: Part | None, name: bytes, pool: FdPool) -> None:
        self.layer = layer
        self.parent = parent
        self.name = name
        self.pool = pool
        self.held = -1
        self.stamp = 0
        self.whiteout_files = False
        self.impure = False
        self.opaque = False
        self.redirect: bytes | None = None
        self.default_acl: bool | None = None
        self.passed_on: int | None = None

    def fd(self) -> int:
        """Return a descriptor for reading this directory; the pool's, not to be closed.

        Raises OSError: ENOENT if somebody removed it behind our back, EMFILE, EACCES.
        """
        pool = self.pool
        pool.clock = self.stamp = pool.clock + 1
        if self.held < 0:
            self._open()
        return self.held

    def stat(self) -> os.stat_result:
        """Return the attributes of this directory, without opening it for that. Raises OSError."""
        if self.held >= 0 or self.parent is None:
            return os.stat(self.fd())
        return os.stat(self.name, dir_fd=self.parent.fd(), follow_symlinks=False)

    def _open(self) -> None:
        parent = self.parent
        if parent is None:
            raise OSError(errno.EBADF, "layer is closed", os.fsdecode(self.layer.path))
        if parent.held >= 0:
            self.held = open_dir(parent.held, self.name)
        else:
            ancestor, path = self._climb()
            try:
                self.held = open_beneath(ancestor.held, path, _DIR_FLAGS | os.O_NOATIME)
            except PermissionError:  # not our directory, and we are not root
                self.held = open_beneath(ancestor.held, path, _DIR_FLAGS)
        self.pool.add(self)

    def _climb(self) -> tuple[Part, bytes]:
        """Return the nearest open ancestor and the path from it to this directory."""
        names = []
        part: Part | None = self
        while part is not None and part.held < 0:
            names.append(part.name)
            part = part.parent
        if part is None:
            raise OSError(errno.EBADF, "layer is closed", os.fsdecode(self.layer.path))
        return part, b"/".join(reversed(names))

    def adopt(self, fd: int) -> None:
        """Take over *fd*, which is open on this directory."""
        self.held = fd
        self.pool.clock = self.stamp = self.pool.clock + 1
        self.pool.add(self)

    def drop(self) -> None:
        """Close the descriptor, if there is one."""
        if self.held >= 0 and self.parent is not None:
            os.close(self.held)
            self.held = -1

    def marks(self, target: int | bytes) -> DirMarks:
        """Return the marks of this directory, which *target* leads to, as ``read_dir_marks`` does.

        Raises OSError, and UnknownMarkError that names it.
        """
        try:
            return read_dir_marks(target, self.layer.flavour)
        except UnknownMarkError as error:
            path = os.fsdecode(self.layer.path + self.path().rstrip(b"/"))
            raise UnknownMarkError(f"{path}: {error}") from None

    def path(self) -> bytes:
        """Return the path from the layer's root, with a leading slash; ``/`` for the root."""
        names = []
        part: Part | None = self
        while part is not None and part.parent is not None:
            names.append(part.name)
            part = part.parent
        return b"/" + b"/".join(reversed(names))
