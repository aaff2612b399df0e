"""What a container changed, written as a layer tar (image-spec layer.md)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import BinaryIO

from unionfs.digest import Digest
from unionfs.errors import RefusedError
from unionfs.ondisk.whiteout import AUFS_OPAQUE, AUFS_PREFIX
from unionfs.tarball import header
from unionfs.tarball.content import attributes, member_of, write_file
from unionfs.tarball.writer import Member, TarWriter
from unionfs.upper.delta import Delta, Item


class UnfitNameError(RefusedError):
    """A file is called what would be a whiteout in a layer."""


def write_delta(
    delta: Delta, items: Iterable[Item], out: BinaryIO, *, mtime_max: int | None
) -> Digest:
    """Write *items* of *delta* to *out* as an uncompressed tar; return its digest.

    *mtime_max* (seconds since 1970) caps modification times, as SOURCE_DATE_EPOCH wants. Raises
    UnfitNameError, ChangedError and OSError.
    """
    writer = TarWriter(out)
    for item in items:
        _check_name(item)
        member = member_of(item.path, item.st, mtime_max)
        if item.link is not None:
            member.kind, member.link = header.HARDLINK, item.link
            writer.add(member)
            continue
        member.xattrs = attributes(delta.target(item), delta.names(item))
        if member.kind == header.DIRECTORY:
            _directory(writer, member, item)
        elif member.kind == header.REGULAR:
            _file(writer, member, delta, item)
        else:
            if member.kind == header.SYMLINK:
                member.link = delta.readlink(item)
            writer.add(member)
    return writer.finish()


def _check_name(item: Item) -> None:
    """Refuse names that only another program can have left in the upper."""
    if item.path.rpartition(b"/")[2].startswith(AUFS_PREFIX):
        raise UnfitNameError(f"file {item.path!r} would read as a whiteout in a layer")


def _directory(writer: TarWriter, member: Member, item: Item) -> None:
    """Write a directory, then what it hides, before the names that it provides."""
    prefix = member.name = item.path + b"/" if item.path else b""
    member.name = member.name or b"./"
    writer.add(member)
    if item.opaque:
        writer.add(Member(kind=header.REGULAR, name=prefix + AUFS_OPAQUE))
    for name in item.gone:
        writer.add(Member(kind=header.REGULAR, name=prefix + AUFS_PREFIX + name))


def _file(writer: TarWriter, member: Member, delta: Delta, item: Item) -> None:
    fd = delta.open(item)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UnfitNameError(f"file {item.path!r} is no regular file on disk")
        write_file(writer, fd, member, item.st.st_size)
    finally:
        os.close(fd)
