"""From a file to its member in a tar: metadata, attributes, content with its holes."""

from __future__ import annotations

import errno
import os
import stat

from unionfs.errors import ConflictError
from unionfs.ondisk import acl
from unionfs.ondisk.flavour import is_driver_name
from unionfs.ondisk.override import AttributeNames
from unionfs.syscalls import xattr
from unionfs.tarball import header
from unionfs.tarball.header import BLOCK, SECOND
from unionfs.tarball.writer import Member, TarWriter

_CHUNK = 1 << 20
_LONGEST_MAP = 256 << 10  # readers bound what stands before the data; beyond it, zeros are written
HOST_ATTRIBUTES = acl.ON_XFS | {b"security.selinux", b"system.nfs4_acl"}  # this machine's, not ours
_KINDS = {
    stat.S_IFREG: header.REGULAR,
    stat.S_IFLNK: header.SYMLINK,
    stat.S_IFCHR: header.CHARACTER,
    stat.S_IFBLK: header.BLOCK_DEVICE,
    stat.S_IFDIR: header.DIRECTORY,
    stat.S_IFIFO: header.FIFO,
}


class ChangedError(ConflictError):
    """A file changed while it was being read."""


def member_of(name: bytes, st: os.stat_result, mtime_max: int | None) -> Member:
    """Return the member *name* with the metadata *st*, no newer than *mtime_max* (seconds)."""
    member = Member(
        kind=_KINDS[stat.S_IFMT(st.st_mode)],
        name=name,
        mode=stat.S_IMODE(st.st_mode),
        uid=st.st_uid,
        gid=st.st_gid,
        mtime_ns=st.st_mtime_ns if mtime_max is None else min(st.st_mtime_ns, mtime_max * SECOND),
    )
    if member.kind in (header.CHARACTER, header.BLOCK_DEVICE):
        member.major, member.minor = os.major(st.st_rdev), os.minor(st.st_rdev)
    return member


def attributes(target: int | bytes, names: AttributeNames) -> dict[bytes, bytes]:
    """Return the attributes of *target* as the image calls them, without any driver's.

    *names* are those of the layer that *target* is in. Raises OSError.
    """
    found = {}
    for name in xattr.names(target):
        shown = names.from_disk(name)
        if shown is None or name in HOST_ATTRIBUTES or (shown == name and is_driver_name(name)):
            continue
        value = xattr.get_valid(target, name)
        if value is not None:
            found[shown] = value
    return found


def write_file(writer: TarWriter, fd: int, member: Member, size: int) -> None:
    """Write *member* with the *size* bytes of *fd*, sparse (GNU's pax format 1.0) if it is.

    Raises ChangedError if there are fewer, OSError.
    """
    stretches = _data_map(fd, size)
    before = b""
    if stretches != [(0, size)] and size:
        if sum(stretches[-1] if stretches else ()) < size:
            stretches.append((size, 0))  # GNU tar would leave out a hole at the end
        before = _map_text(stretches)
    if not before or len(before) > _LONGEST_MAP:
        before, stretches = b"", [(0, size)]
    else:
        member.extra = [
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", member.name),
            (b"GNU.sparse.realsize", b"%d" % size),
        ]
    member.size = len(before) + sum(length for _, length in stretches)
    writer.add(member)
    writer.data(before)
    for offset, length in stretches:
        _copy(writer, fd, offset, length, member.name)
    writer.pad(member.size)


def _copy(writer: TarWriter, fd: int, offset: int, length: int, name: bytes) -> None:
    end = offset + length
    while offset < end:
        data = os.pread(fd, min(_CHUNK, end - offset), offset)
        if not data:
            raise ChangedError(f"file {name!r} became shorter while it was being read")
        writer.data(data)
        offset += len(data)


def _data_map(fd: int, size: int) -> list[tuple[int, int]]:
    """Return the (offset, length) stretches of *fd* that are not holes."""
    found = []
    offset = 0
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                break
            if error.errno == errno.EINVAL:  # a filesystem without holes
                return [(0, size)]
            raise
        offset = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        if start < offset:
            found.append((start, offset - start))
    return found


def _map_text(stretches: list[tuple[int, int]]) -> bytes:
    lines = [len(stretches), *(number for stretch in stretches for number in stretch)]
    text = b"".join(b"%d\n" % number for number in lines)
    return text + bytes(-len(text) % BLOCK)
