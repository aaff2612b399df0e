"""A layer directory in the kernel overlayfs's format to a layer tar, always the same bytes for it.

Names are sorted bytewise; a directory comes before what is in it, an opaque directory's mark and
the whiteouts before the names that the layer provides (image-spec layer.md, "Whiteouts").
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from unionfs.digest import Digest
from unionfs.errors import RefusedError
from unionfs.ondisk import override
from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.marks import DirMarks, read_dir_marks
from unionfs.ondisk.whiteout import AUFS_OPAQUE, AUFS_PREFIX, is_whiteout
from unionfs.syscalls import xattr
from unionfs.syscalls.at import name_path, open_dir
from unionfs.tarball import header
from unionfs.tarball.content import ChangedError, attributes, member_of, write_file
from unionfs.tarball.writer import Member, TarWriter

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NotALayerError(RefusedError):
    """A directory holds what a layer tar cannot say."""


def emit_tree(
    root_fd: int, out: BinaryIO, *, flavour: Flavour, mtime_max: int | None = None
) -> Digest:
    """Write the layer directory *root_fd* to *out* as an uncompressed tar; return its diffID.

    *mtime_max* (seconds since 1970) caps modification times, as SOURCE_DATE_EPOCH wants. The
    driver's own attributes are left out, escaped ones get their names back; sockets are left out,
    since no tar can hold them. Holes stay holes.

    Raises NotALayerError for what only the driver's attributes can say (a redirect, metacopy) and
    for names that would read as whiteouts, ChangedError, and OSError.
    """
    writer = TarWriter(out)
    emitter = _Emitter(writer, flavour, override.of_layer(root_fd), mtime_max)
    fd = open_dir(root_fd, b".")
    try:
        levels = [(b"", emitter.directory(fd, b""))]
        while levels:
            path, names = levels[-1]
            name = next(names, None)
            if name is None:
                levels.pop()
                fd = _step(fd, b"..") if levels else fd
            elif not emitter.other(fd, path, name):
                fd = _step(fd, name)
                below = path + name + b"/"
                levels.append((below, emitter.directory(fd, below)))
    finally:
        os.close(fd)
    return writer.finish()


class _Emitter:
    """Turns what is found into members; ``_links`` knows the files that have several names.

    *spelling* says in which attribute owners, modes and types are, None: where files have them.
    """

    def __init__(
        self,
        writer: TarWriter,
        flavour: Flavour,
        spelling: override.Spelling | None,
        mtime_max: int | None,
    ) -> None:
        self._writer = writer
        self._flavour = flavour
        self._spelling = spelling
        self._names = override.names_in(flavour, spelling)
        self._mtime_max = mtime_max
        self._links: dict[tuple[int, int], bytes] = {}

    def directory(self, fd: int, path: bytes) -> Iterator[bytes]:
        """Write the directory *fd*, its marks and whiteouts; return the names it provides."""
        marks = read_dir_marks(fd, self._flavour)
        if marks.redirect is not None:
            raise NotALayerError(f"directory {path!r} is redirected: a layer tar cannot say that")
        member = member_of(path or b"./", self._shown(os.fstat(fd), fd), self._mtime_max)
        member.xattrs = self._xattrs(fd, path)
        self._writer.add(member)
        names, whiteouts = self._listed(fd, path, marks)
        if marks.opaque:
            self._writer.add(Member(kind=header.REGULAR, name=path + AUFS_OPAQUE))
        for name in whiteouts:
            self._writer.add(Member(kind=header.REGULAR, name=path + AUFS_PREFIX + name))
        return iter(names)

    def other(self, dir_fd: int, path: bytes, name: bytes) -> bool:
        """Write *name* unless it is a directory; return whether it is none."""
        st = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        if stat.S_ISDIR(st.st_mode):
            return False
        st = self._shown(st, name_path(dir_fd, name))
        kind = stat.S_IFMT(st.st_mode)
        if kind == stat.S_IFSOCK:
            return True
        first = self._links.setdefault((st.st_dev, st.st_ino), path + name)
        if st.st_nlink == 1:
            del self._links[st.st_dev, st.st_ino]
        if first != path + name:
            member = member_of(path + name, st, self._mtime_max)
            member.kind, member.link = header.HARDLINK, first
            self._writer.add(member)
        elif kind == stat.S_IFREG:
            self._file(dir_fd, path, name)
        else:
            self._special(dir_fd, path, name, st)
        return True

    def _listed(self, fd: int, path: bytes, marks: DirMarks) -> tuple[list[bytes], list[bytes]]:
        """Return the names in *fd* that are provided and those that are hidden, sorted."""
        names: list[bytes] = []
        whiteouts: list[bytes] = []
        with os.scandir(fd) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                if name.startswith(AUFS_PREFIX):
                    raise NotALayerError(f"file {path + name!r} would read as a whiteout in a tar")
                (whiteouts if self._hides(fd, name, entry, marks) else names).append(name)
        return sorted(names), sorted(whiteouts)

    def _hides(self, fd: int, name: bytes, entry: os.DirEntry[str], marks: DirMarks) -> bool:
        if entry.is_file(follow_symlinks=False):
            if not marks.whiteout_files:
                return False
            return xattr.get(name_path(fd, name), self._flavour.whiteout) is not None
        if entry.is_dir(follow_symlinks=False) or entry.is_symlink():
            return False
        return is_whiteout(os.stat(name, dir_fd=fd, follow_symlinks=False))

    def _shown(self, st: os.stat_result, target: int | bytes) -> os.stat_result:
        """Return what *target*, whose own attributes are *st*, is in the image."""
        if self._spelling is None:
            return st
        value = override.read(target, self._spelling)
        return st if value is None else override.applied(st, value)

    def _special(self, dir_fd: int, path: bytes, name: bytes, st: os.stat_result) -> None:
        member = member_of(path + name, st, self._mtime_max)
        member.xattrs = self._xattrs(name_path(dir_fd, name), path + name)
        if member.kind == header.SYMLINK:
            member.link = override.link_target(dir_fd, name)
        self._writer.add(member)

    def _file(self, dir_fd: int, path: bytes, name: bytes) -> None:
        fd = os.open(name, _READ, dir_fd=dir_fd)
        try:
            st = os.fstat(fd)
            if not stat.S_ISREG(st.st_mode):
                raise ChangedError(f"file {path + name!r} changed while it was being read")
            member = member_of(path + name, self._shown(st, fd), self._mtime_max)
            member.xattrs = self._xattrs(fd, path + name)
            write_file(self._writer, fd, member, st.st_size)
        finally:
            os.close(fd)

    def _xattrs(self, target: int | bytes, path: bytes) -> dict[bytes, bytes]:
        """Return the attributes as the image calls them, without any driver's."""
        if self._flavour.metacopy in xattr.names(target):
            raise NotALayerError(f"file {path!r} has its data elsewhere (metacopy)")
        return attributes(target, self._names)


def _step(fd: int, name: bytes) -> int:
    """Return the directory *name* in *fd*, which is closed."""
    step = open_dir(fd, name)
    os.close(fd)
    return step
