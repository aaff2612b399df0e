"""The origin mark: which lower file an upper file was copied from (fs/overlayfs/overlayfs.h).

The value is a ``struct ovl_fb``: version 0, magic 0xfb, its own length, flags, the handle's type,
the filesystem's UUID and the handle. The same bytes in hexadecimal name the file's entry in the
work directory's ``index``, which is how all names of a copied-up hard link find the one copy.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
import sys
from typing import NamedTuple

from unionfs.syscalls.handle import FileHandle

_HEADER = struct.Struct("BBBBB16s")
_VERSION = 0
_MAGIC = 0xFB
_FLAG_BIG_ENDIAN = 1
_FLAG_ANY_ENDIAN = 2
_FLAGS_HERE = 0 if sys.byteorder == "little" else _FLAG_BIG_ENDIAN
_GET_FS_UUID = 0x80111500  # FS_IOC_GETFSUUID, linux/fs.h, Linux 6.9
_EXT4_GET_FS_UUID = 0x8008662C  # EXT4_IOC_GETFSUUID, Linux 6.0
_NULL_UUID = bytes(16)
_OTHER_FILESYSTEM = frozenset(
    (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EACCES)
)
_BTRFS_FS_INFO = 0x8400941F  # BTRFS_IOC_FS_INFO


class Origin(NamedTuple):
    """A lower file: the *uuid* of its filesystem and its *handle* there."""

    uuid: bytes
    handle: FileHandle

    def encode(self) -> bytes:
        """Return the mark's value."""
        size = _HEADER.size + len(self.handle.data)
        head = _HEADER.pack(_VERSION, _MAGIC, size, _FLAGS_HERE, self.handle.kind, self.uuid)
        return head + self.handle.data

    def index_name(self) -> bytes:
        """Return the name of this file's entry in the index directory."""
        return self.encode().hex().encode()


def decode(value: bytes | None) -> Origin | None:
    """Return the origin that *value* spells; None for none, an empty or a foreign one.

    overlayfs itself writes an empty value when the lower filesystem has no handles.
    """
    if value is None or len(value) < _HEADER.size:
        return None
    version, magic, size, flags, kind, uuid = _HEADER.unpack_from(value)
    if version != _VERSION or magic != _MAGIC or size != len(value):
        return None
    if not flags & _FLAG_ANY_ENDIAN and (flags & _FLAG_BIG_ENDIAN) != _FLAGS_HERE:
        return None
    return Origin(uuid, FileHandle(kind, value[_HEADER.size :]))


def filesystem_uuid(fd: int) -> bytes | None:
    """Return the 16-byte UUID of the filesystem of *fd* as overlayfs sees it; None if unknown.

    Asks in the ways that Linux has had over time. A filesystem may have the null UUID, which
    overlayfs writes down like any other; from Linux 6.9 on, one that does not answer has that.
    Raises OSError for an error of the disk.
    """
    for request, buffer, where in (
        (_GET_FS_UUID, bytearray(17), slice(1, 17)),
        (_EXT4_GET_FS_UUID, bytearray(struct.pack("II", 16, 0)) + bytearray(16), slice(8, 24)),
        (_BTRFS_FS_INFO, bytearray(1024), slice(16, 32)),
    ):
        try:
            fcntl.ioctl(fd, request, buffer)
        except OSError as error:
            if error.errno in _OTHER_FILESYSTEM:
                continue
            raise
        return bytes(buffer[where])
    return _NULL_UUID if _kernel() >= (6, 9) else None


def is_btrfs(fd: int) -> bool:
    """Return whether *fd* is on btrfs, all of whose subvolumes are one filesystem to overlayfs.

    Each has a device number and inode numbers of its own, and a handle says which it is of.
    """
    try:
        fcntl.ioctl(fd, _BTRFS_FS_INFO, bytearray(1024))
    except OSError:
        return False
    return True


def _kernel() -> tuple[int, ...]:
    """Return the running kernel's version: major and minor."""
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
