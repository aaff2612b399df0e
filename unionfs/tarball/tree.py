"""The directories of a layer that is being made: which there are, and open descriptors of some.

The layer starts empty and nobody else writes in it, so a directory is in this tree or is not there.
Times, modes and ACLs are kept and set at the end: adding a name changes a directory's mtime, a mode
may forbid writing, and a default ACL would be inherited.
"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.override import Spelling, kind_of
from unionfs.ondisk.whiteout import (
    is_whiteout,
    is_whiteout_file,
    make_whiteout,
    make_whiteout_file,
)
from unionfs.syscalls import xattr
from unionfs.syscalls.at import name_path, open_dir
from unionfs.syscalls.remove import remove_tree
from unionfs.tarball.header import shown
from unionfs.tarball.limits import Limits
from unionfs.tarball.names import UnsafeEntryError

Acls = tuple[tuple[bytes, bytes], ...]

_OPEN = 128
_IMPLICIT_MODE = 0o755
_BUSY_MODE = 0o700  # while the layer is being made


class Settings(NamedTuple):
    """What a directory gets at the end: permission bits, nanoseconds since 1970, ACLs.

    And its owner, where that is written down with the mode.
    """

    mode: int
    mtime_ns: int
    acls: Acls
    uid: int = 0
    gid: int = 0


IMPLICIT = Settings(_IMPLICIT_MODE, 0, ())
REPLACING = Settings(_IMPLICIT_MODE, 0, ())  # the same, and what is below lends it nothing


class Dir:
    """A directory of the layer; ``fd`` is -1 unless it is among the open ones."""

    __slots__ = ("children", "fd", "name", "parent", "settings")

    def __init__(self, parent: Dir | None, name: bytes) -> None:
        self.parent = parent
        self.name = name
        self.children: dict[bytes, Dir] = {}
        self.fd = -1
        self.settings = IMPLICIT

    def path(self) -> bytes:
        """Return the path from the layer's root, ``.`` for the root itself."""
        parts = []
        node: Dir | None = self
        while node is not None and node.parent is not None:
            parts.append(node.name)
            node = node.parent
        return b"/".join(reversed(parts)) or b"."


class Tree:
    """The directories below *root_fd*, which stays the caller's to close.

    ``made`` counts what was put into the layer; ``replaced`` says that something of it was removed
    again, for another of its name. ``close`` must be called.
    """

    def __init__(
        self, root_fd: int, flavour: Flavour, limits: Limits, spelling: Spelling | None = None
    ) -> None:
        self.root = Dir(None, b"")
        self.root.fd = root_fd
        self.made = 0
        self.replaced = False
        self._flavour = flavour
        self._spelling = spelling
        self._limits = limits
        self._open: OrderedDict[Dir, None] = OrderedDict()
        self._marked: set[Dir] = set()  # those that hold whiteouts as files
        self._opaque: set[Dir] = set()

    def close(self) -> None:
        """Close every descriptor but the root's."""
        for node in self._open:
            os.close(node.fd)
            node.fd = -1
        self._open.clear()

    def fd(self, node: Dir) -> int:
        """Return a descriptor of *node*, good until two other directories were asked for."""
        if node.fd >= 0:
            if node.parent is not None:
                self._open.move_to_end(node)
            return node.fd
        node.fd = self._descend(node)
        self._open[node] = None
        if len(self._open) > _OPEN:
            oldest, _ = self._open.popitem(last=False)
            os.close(oldest.fd)
            oldest.fd = -1
        return node.fd

    def count(self) -> None:
        """Account for one more thing in the layer. Raises LimitError."""
        self.made += 1
        if self.made > self._limits.max_entries:
            raise self._limits.exceeded("max_entries", "too many files in a layer")

    def directory(self, parts: list[bytes], name: bytes) -> Dir:
        """Return the directory *parts*, made with its parents where missing.

        Raises UnsafeEntryError naming the entry (*name*) if something else is in the way: a
        symbolic link is neither followed nor replaced.
        """
        node = self.root
        for part in parts:
            node = node.children.get(part) or self._imply(node, part, name)
        return node

    def is_below_file(self, parts: list[bytes]) -> bool:
        """Return whether the layer has something on the way *parts* that can have nothing below.

        That is neither a directory, nor a symbolic link (which ``directory`` refuses), nor a
        whiteout (in whose place ``directory`` makes one).
        """
        node = self.root
        for part in parts:
            below = node.children.get(part)
            if below is None:
                return self._is_file(node, part)
            node = below
        return False

    def find(self, parts: list[bytes]) -> Dir | None:
        """Return the directory *parts* if it is in the layer."""
        node: Dir | None = self.root
        for part in parts:
            if node is None:
                return None
            node = node.children.get(part)
        return node

    def make(self, parent: Dir, name: bytes) -> Dir:
        """Return the directory *name* of *parent*, made unless it is there.

        What else had the name is removed, and the directory made opaque: that thing hid what the
        lower layers have there.
        """
        node = parent.children.get(name)
        if node is not None:
            return node
        self.count()
        fd = self.fd(parent)
        try:
            os.mkdir(name, _BUSY_MODE, dir_fd=fd)
        except FileExistsError:
            os.unlink(name, dir_fd=fd)
            self.replaced = True
            os.mkdir(name, _BUSY_MODE, dir_fd=fd)
            node = self._add(parent, name)
            self.make_replacing(node)
            return node
        return self._add(parent, name)

    def make_opaque(self, node: Dir) -> None:
        """Let nothing of the lower layers show through *node*. Raises OSError.

        Whiteouts that are files would show now, in all of the layer if it is the root.
        """
        for each in self._marked.copy() if node is self.root else self._marked & {node}:
            self._show_all(each)
        self._opaque.add(node)
        xattr.set_(self.fd(node), self._flavour.opaque, b"y")

    def hide(self, parent: Dir, name: bytes) -> None:
        """Put a whiteout at *name* in *parent*. Raises OSError (FileExistsError).

        A file with an attribute where no device can be made (a store on the kernel's overlayfs);
        none at all where everything is hidden anyway.
        """
        try:
            make_whiteout(self.fd(parent), name)
        except PermissionError:
            if self._opaque.isdisjoint((self.root, parent)):
                make_whiteout_file(self.fd(parent), name, self._flavour.whiteout)
                for each in {self.root, parent} - self._marked:
                    xattr.set_(self.fd(each), self._flavour.opaque, b"x")
                    self._marked.add(each)

    def hidden(self, parent: Dir, name: bytes, st: os.stat_result) -> bool:
        """Return whether *name* in *parent*, whose attributes are *st*, is a whiteout."""
        if is_whiteout(st):
            return True
        if parent not in self._marked:
            return False
        return is_whiteout_file(st, name_path(self.fd(parent), name), self._flavour.whiteout)

    def _show_all(self, node: Dir) -> None:
        """Remove the whiteouts that are files from *node*, and the mark that makes them such."""
        self._marked.discard(node)
        fd = self.fd(node)
        for name in (os.fsencode(one) for one in os.listdir(fd)):
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if is_whiteout_file(st, name_path(fd, name), self._flavour.whiteout):
                os.unlink(name, dir_fd=fd)
        xattr.remove(fd, self._flavour.opaque)

    def make_replacing(self, node: Dir) -> None:
        """Let *node* stand for itself: it is not what the lower layers have there."""
        self.make_opaque(node)
        if node.settings is IMPLICIT:
            node.settings = REPLACING

    def clear(self, parent: Dir, name: bytes) -> None:
        """Remove whatever is called *name* in *parent*, a directory with its content."""
        self.replaced = True
        gone = parent.children.pop(name, None)
        if gone is not None:
            self.close()
            self._forget(gone)
        remove_tree(self.fd(parent), name)

    def _forget(self, gone: Dir) -> None:
        """Know no marks of the directory *gone* and those below it."""
        pending = [gone]
        while pending:
            each = pending.pop()
            self._marked.discard(each)
            self._opaque.discard(each)
            pending += each.children.values()

    def settle(self, finish: Callable[[int, bytes, Settings], None]) -> tuple[bytes, ...]:
        """Give all directories their modes, ACLs and times; return the implied ones' paths.

        *finish* gets descriptor, path and settings, and sets mode and ACLs. Raises OSError and
        LimitError.
        """
        self.close()
        implied: list[bytes] = []
        kept = 0
        for node, fd in self._upwards():
            settings = node.settings
            if settings is IMPLICIT:
                implied.append(node.path())
                kept += len(implied[-1])
                if kept > self._limits.max_kept:
                    raise self._limits.exceeded("max_kept", "too many implied directories")
            finish(fd, node.path(), settings)
            os.utime(fd, ns=(settings.mtime_ns, settings.mtime_ns))
        return tuple(sorted(implied, key=lambda path: b"" if path == b"." else path))

    def _is_file(self, parent: Dir, name: bytes) -> bool:
        try:
            st = os.stat(name, dir_fd=self.fd(parent), follow_symlinks=False)
        except FileNotFoundError:
            return False
        kind = kind_of(st, name_path(self.fd(parent), name), self._spelling)
        return kind != stat.S_IFLNK and not self.hidden(parent, name, st)

    def _imply(self, parent: Dir, name: bytes, entry: bytes) -> Dir:
        fd = self.fd(parent)
        try:
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return self.make(parent, name)
        if self.hidden(parent, name, st):
            return self.make(parent, name)
        raise UnsafeEntryError(
            f"layer entry {shown(entry)} is below {shown(parent.path() + b'/' + name)}, "
            "which the layer made something else than a directory"
        )

    def _add(self, parent: Dir, name: bytes) -> Dir:
        node = parent.children[name] = Dir(parent, name)
        return node

    def _descend(self, node: Dir) -> int:
        """Open *node* from its nearest open ancestor."""
        names: list[bytes] = []
        above = node
        while above.fd < 0:
            names.append(above.name)
            assert above.parent is not None  # the root is always open
            above = above.parent
        fd = open_dir(above.fd, names.pop())
        while names:
            try:
                step = open_dir(fd, names.pop())
            finally:
                os.close(fd)
            fd = step
        return fd

    def _upwards(self) -> Iterator[tuple[Dir, int]]:
        """Yield every directory, open, after all below it; two descriptors at any depth."""
        fd = os.dup(self.root.fd)
        try:
            levels = [(self.root, iter(self.root.children.values()))]
            while levels:
                node, children = levels[-1]
                child = next(children, None)
                if child is not None:
                    step = open_dir(fd, child.name)
                    levels.append((child, iter(child.children.values())))
                else:
                    levels.pop()
                    # Upwards first: a mode without x would forbid leaving by "..".
                    step = open_dir(fd, b"..") if levels else os.dup(fd)
                    try:
                        yield node, fd
                    except BaseException:
                        os.close(step)
                        raise
                os.close(fd)
                fd = step
        finally:
            os.close(fd)
