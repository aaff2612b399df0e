"""A layer tar into an empty directory, in the kernel overlayfs's format.

Every name, size and link is an attacker's. Each thing is made under a descriptor of its directory,
with calls that fail on whatever is there (mkdir, O_EXCL, mknod, symlink, link): nothing is opened
that the layer made before, and no symbolic link is followed.

- An entry below something that this layer made a symbolic link or a file is refused. Following the
  link inside the layer would be wrong as soon as a lower layer has a say, and replacing it by a
  directory would silently lose the link.
- A later entry replaces an earlier one of the same name, as tar does; a directory entry for a
  directory that is there changes its metadata. A directory that replaces anything else is opaque,
  since what it replaces hid the lower layers' content.
- A whiteout whose name the layer also provides, before or after it: the provided thing stays; if it
  is a directory it is opaque.
- A character device 0:0 is the driver's own whiteout and is left out, with a warning.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from unionfs.digest import Digest
from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.override import make_stand_in, of_store
from unionfs.ondisk.whiteout import AUFS_OPAQUE, AUFS_PREFIX
from unionfs.tarball import header
from unionfs.tarball.header import Entry, shown
from unionfs.tarball.limits import Limits
from unionfs.tarball.metadata import Metadata, Warnings
from unionfs.tarball.names import (
    NAME_MAX,
    UnsafeEntryError,
    check_parents,
    components,
    hidden_name,
    is_aufs_meta,
)
from unionfs.tarball.reader import TarReader
from unionfs.tarball.recipe import Recorder
from unionfs.tarball.stream import ReadAhead, TarStream
from unionfs.tarball.tree import Dir, Settings, Tree

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL = frozenset((b"", b".", b".."))
_SYMLINK_MAX = 4095
_MAJOR_END = 1 << 12  # dev_t as the kernel encodes it: 12 and 20 bits
_MINOR_END = 1 << 20


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a layer tar.

    ``tar_size``: bytes of the uncompressed tar, all of which ``diff_id`` covers. ``content_size``:
    sum of the apparent sizes of its regular files. ``entries``: entries of the tar.
    ``implicit_dirs``: paths of the directories that no entry described and that replace nothing
    (0755, ours, time 0), parents first; ``.`` is the layer's root. ``root_opaque``: the layer hides
    all those below it, which no mark on a layer's root can say to overlayfs. ``warnings``: a line
    for each kind of thing that was not kept.
    """

    diff_id: Digest
    tar_size: int
    content_size: int
    entries: int
    implicit_dirs: tuple[bytes, ...]
    warnings: tuple[str, ...]
    root_opaque: bool = False
    has_recipe: bool = False


def apply_layer(
    tar: BinaryIO,
    dest_fd: int,
    *,
    flavour: Flavour,
    limits: Limits,
    progress: Callable[[int], None] | None = None,
    recipe: BinaryIO | None = None,
    sparse_only: set[bytes] | None = None,
) -> Applied:
    """Write the layer in the uncompressed stream *tar* to the empty directory *dest_fd*.

    *progress* gets the count of tar bytes read since its last call. The stream is read to its end.
    How the tar was written goes to the empty file *recipe* (``recipe.replay``). With *sparse_only*
    files get their size and no content, but for sparse ones, whose names are put there.
    Nothing is synced. Where owners cannot be given (the flavour is an ordinary user's), they are
    written down with modes and types (``ondisk.override``).

    Raises TarFormatError for what is not a tar, UnsafeEntryError for hostile entries, LimitError,
    OSError (ENOSPC, say) and what reading *tar* raises; the directory is then to be thrown away.
    """
    source = ReadAhead(tar)
    tree = Tree(dest_fd, flavour, limits, of_store(flavour))
    try:
        recorder = None if recipe is None else Recorder(recipe)
        stream = TarStream(source, limits, progress, recorder)
        layer = _Layer(tree, TarReader(stream, limits), limits, flavour, sparse_only)
        layer.run()
        if stream.drain():
            layer.warnings.add("data after the end of the tar ignored", b"")
        if recorder is not None and tree.replaced:
            recorder.give_up()
        implied = tree.settle(layer.metadata.finish_directory)
        return Applied(
            diff_id=source.digest(),
            tar_size=stream.offset,
            content_size=layer.content_size,
            entries=layer.entries,
            implicit_dirs=implied,
            warnings=layer.warnings.lines(),
            root_opaque=layer.root_opaque,
            has_recipe=recorder is not None and recorder.finish(),
        )
    finally:
        tree.close()
        source.close()


class _Layer:
    """One application: where each entry goes, and the making of it."""

    def __init__(
        self,
        tree: Tree,
        reader: TarReader,
        limits: Limits,
        flavour: Flavour,
        sparse_only: set[bytes] | None,
    ) -> None:
        self.warnings = Warnings()
        self._sparse_only = sparse_only
        self._spelling = of_store(flavour)
        self.metadata = Metadata(flavour, self._spelling, self.warnings)
        self.content_size = 0
        self.entries = 0
        self.root_opaque = False
        self._tree = tree
        self._reader = reader
        self._limits = limits
        self._kept = 0
        self._last: tuple[bytes | None, Dir] = (None, tree.root)
        self._make: dict[bytes, Callable[[Dir, bytes, Entry], None]] = {
            header.REGULAR: self._file,
            header.HARDLINK: self._hard_link,
            header.SYMLINK: self._symlink,
            header.CHARACTER: self._device,
            header.BLOCK_DEVICE: self._device,
            header.DIRECTORY: self._directory,
            header.FIFO: self._fifo,
        }

    def run(self) -> None:
        """Apply all entries."""
        for entry in self._reader:
            self.entries += 1
            self.metadata.check(entry)
            make = self._make.get(entry.kind)
            if make is None:
                raise UnsafeEntryError(
                    f"layer entry {shown(entry.name)} is of unknown type {entry.kind!r}"
                )
            place = self._place(entry)
            if place is not None:
                make(*place, entry)
        if not self._reader.ended:
            self.warnings.add("tar without its end mark", b"")

    def _place(self, entry: Entry) -> tuple[Dir, bytes] | None:
        """Return directory and last component for *entry*; None if it is done or nothing."""
        head, _, leaf = entry.name.rpartition(b"/")
        if (
            head == self._last[0]
            and leaf not in _SPECIAL
            and len(leaf) <= NAME_MAX
            and not leaf.startswith(AUFS_PREFIX)
        ):
            return self._last[1], leaf
        parts = components(entry.name, self._limits)
        if not parts:
            self._root(entry)
            return None
        if is_aufs_meta(parts):
            self.warnings.add("housekeeping of AUFS ignored", entry.name)
            return None
        *parents, leaf = parts
        check_parents(parents, entry.name)
        if leaf.startswith(AUFS_PREFIX) and self._tree.is_below_file(parents):
            # umoci writes these for a directory that became a file, which hides them all anyway.
            self.warnings.add("whiteout below something that is no directory ignored", entry.name)
            return None
        parent = self._tree.directory(parents, entry.name)
        if leaf.startswith(AUFS_PREFIX):
            self._whiteout(parent, leaf, entry)
            return None
        if not entry.name.endswith(b"/"):
            self._last = (head, parent)
        return parent, leaf

    def _root(self, entry: Entry) -> None:
        if entry.kind != header.DIRECTORY:
            raise UnsafeEntryError(
                f"layer entry {shown(entry.name)} is no directory but has no name"
            )
        self._describe(self._tree.root, entry)

    def _whiteout(self, parent: Dir, leaf: bytes, entry: Entry) -> None:
        if entry.kind not in (header.REGULAR, header.HARDLINK):  # AUFS makes them links
            raise UnsafeEntryError(f"layer entry {shown(entry.name)} is a whiteout but not a file")
        if leaf == AUFS_OPAQUE:
            self.root_opaque = self.root_opaque or parent.parent is None
            self._tree.make_opaque(parent)
            return
        hidden = hidden_name(leaf, entry.name)
        _check_length(hidden, entry)
        node = parent.children.get(hidden)
        if node is not None:
            self._tree.make_replacing(node)
            return
        self._tree.count()
        try:
            self._tree.hide(parent, hidden)
        except FileExistsError:
            pass  # the layer provides it, which hides what is below as well

    def _file(self, parent: Dir, name: bytes, entry: Entry) -> None:
        self.content_size += entry.real_size
        if self.content_size > self._limits.max_bytes:
            raise self._limits.exceeded("max_bytes", f"files too large, at {shown(entry.name)}")
        dir_fd = self._vacant(parent)
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=dir_fd)
        except FileExistsError:
            self._clear(parent, name)
            fd = os.open(name, _CREATE, 0o600, dir_fd=self._tree.fd(parent))
        try:
            if self._sparse_only is not None and entry.sparse is None:
                os.ftruncate(fd, entry.real_size)
            elif entry.real_size:
                self._reader.copy_data(entry, fd)
                if self._sparse_only is not None:
                    self._sparse_only.add(b"/".join(components(entry.name, self._limits)))
            self.metadata.on_file(fd, entry)
        finally:
            os.close(fd)

    def _directory(self, parent: Dir, name: bytes, entry: Entry) -> None:
        self._describe(self._tree.make(parent, name), entry)

    def _describe(self, node: Dir, entry: Entry) -> None:
        acls = self.metadata.on_directory(self._tree.fd(node), entry)
        self._kept += sum(len(value) for _, value in acls)
        if self._kept > self._limits.max_kept:
            raise self._limits.exceeded("max_kept", f"too much in ACLs, at {shown(entry.name)}")
        node.settings = Settings(entry.mode, entry.mtime_ns, acls, entry.uid, entry.gid)

    def _symlink(self, parent: Dir, name: bytes, entry: Entry) -> None:
        if not 0 < len(entry.link) <= _SYMLINK_MAX:
            raise UnsafeEntryError(f"layer entry {shown(entry.name)}: no link can have that target")
        if self._spelling is not None:
            self._named(parent, name, entry, lambda fd: make_stand_in(fd, name, entry.link))
        else:
            self._named(parent, name, entry, lambda fd: os.symlink(entry.link, name, dir_fd=fd))

    def _fifo(self, parent: Dir, name: bytes, entry: Entry) -> None:
        if self._spelling is not None:
            self._named(parent, name, entry, lambda fd: make_stand_in(fd, name))
        else:
            self._named(parent, name, entry, lambda fd: os.mkfifo(name, 0o600, dir_fd=fd))

    def _device(self, parent: Dir, name: bytes, entry: Entry) -> None:
        if not (0 <= entry.major < _MAJOR_END and 0 <= entry.minor < _MINOR_END):
            raise UnsafeEntryError(
                f"layer entry {shown(entry.name)} is a device {entry.major}:{entry.minor}, which "
                "no kernel knows"
            )
        if entry.kind == header.CHARACTER and not entry.major and not entry.minor:
            return self.warnings.add("character device 0:0 left out", entry.name)
        if self._spelling is not None:
            return self._named(parent, name, entry, lambda fd: make_stand_in(fd, name))
        kind = stat.S_IFCHR if entry.kind == header.CHARACTER else stat.S_IFBLK
        device = os.makedev(entry.major, entry.minor)
        self._named(parent, name, entry, lambda fd: os.mknod(name, kind | 0o600, device, dir_fd=fd))
        return None

    def _named(self, parent: Dir, name: bytes, entry: Entry, make: Callable[[int], None]) -> None:
        """Have *make* make *name* in a directory, then give it its metadata."""
        dir_fd = self._vacant(parent)
        try:
            make(dir_fd)
        except FileExistsError:
            self._clear(parent, name)
            dir_fd = self._tree.fd(parent)
            make(dir_fd)
        self.metadata.on_name(dir_fd, name, entry)

    def _hard_link(self, parent: Dir, name: bytes, entry: Entry) -> None:
        directory, target = self._link_target(entry)
        if directory is parent and target == name:
            return  # a link to itself: there already
        dir_fd = self._vacant(parent)
        try:
            self._link(directory, target, dir_fd, name)
        except FileExistsError:
            self._clear(parent, name)
            self._link_target(entry)  # it may have been in what was removed
            self._link(directory, target, self._tree.fd(parent), name)

    def _link(self, directory: Dir, target: bytes, dir_fd: int, name: bytes) -> None:
        os.link(
            target,
            name,
            src_dir_fd=self._tree.fd(directory),
            dst_dir_fd=dir_fd,
            follow_symlinks=False,
        )

    def _link_target(self, entry: Entry) -> tuple[Dir, bytes]:
        """Return where the target of a hard link is: something in this layer, no directory."""
        *parents, leaf = components(entry.link, self._limits) or [b"."]
        directory = self._tree.find(parents)
        if directory is not None and leaf not in directory.children and leaf != b".":
            try:
                st = os.stat(leaf, dir_fd=self._tree.fd(directory), follow_symlinks=False)
            except FileNotFoundError:
                pass
            else:
                if not self._tree.hidden(directory, leaf, st):
                    return directory, leaf
        raise UnsafeEntryError(
            f"layer entry {shown(entry.name)} is a hard link to {shown(entry.link)}, "
            "which is no file that this layer has provided"
        )

    def _vacant(self, parent: Dir) -> int:
        """Account for a new name; return the descriptor of its directory."""
        self._tree.count()
        return self._tree.fd(parent)

    def _clear(self, parent: Dir, name: bytes) -> None:
        self._last = (None, self._tree.root)  # its directory may be in what is removed
        self._tree.clear(parent, name)


def _check_length(name: bytes, entry: Entry) -> None:
    if len(name) > NAME_MAX:
        raise UnsafeEntryError(f"layer entry {shown(entry.name)} is a whiteout of too long a name")
