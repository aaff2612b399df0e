"""What a tree takes, that nobody can be trusted to keep still or small."""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from unionfs.syscalls.at import open_beneath

_BLOCK = 512  # the unit of st_blocks, whatever the filesystem's (stat(2))
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_VANISHED = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))


class TreeSize(NamedTuple):
    """Bytes of a tree: ``apparent`` of the content of its regular files, ``on_disk`` of all."""

    apparent: int
    on_disk: int

    def __add__(self, other: object) -> TreeSize:
        """Return the sum of two trees that share no file."""
        if not isinstance(other, TreeSize):
            return NotImplemented
        return TreeSize(self.apparent + other.apparent, self.on_disk + other.on_disk)


NOTHING = TreeSize(0, 0)


def tree_size(path: bytes) -> TreeSize:
    """Return the size of the directory or file *path*, a file with several names counted once.

    Walks by descriptors, follows no link, does not cross into another filesystem, and lets things
    vanish while it looks. Blocks that files share (reflinks) count with each. Raises OSError if
    *path* itself cannot be read.
    """
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        return TreeSize(_content(status), status.st_blocks * _BLOCK)
    top = os.open(path, _DIRECTORY)
    try:
        walk = _Walk(top, status.st_dev, status.st_blocks)
        walk.run()
    finally:
        os.close(top)
    return TreeSize(walk.apparent, walk.blocks * _BLOCK)


def _content(status: os.stat_result) -> int:
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


class _Walk:
    """One walk below a directory: constant descriptors, any depth."""

    def __init__(self, top: int, device: int, blocks: int) -> None:
        self._top = top
        self._device = device
        self._linked: set[int] = set()
        self.blocks = blocks
        self.apparent = 0

    def run(self) -> None:
        """Add up everything below the top."""
        pending = [b"."]
        while pending:
            here = pending.pop()
            try:
                fd = open_beneath(self._top, here, _DIRECTORY)
            except OSError as error:
                if error.errno in _VANISHED:
                    continue
                raise
            try:
                pending += [here + b"/" + name for name in self._directory(fd)]
            finally:
                os.close(fd)

    def _directory(self, fd: int) -> list[bytes]:
        """Count the entries of a directory; return the names of its subdirectories."""
        below = []
        with os.scandir(fd) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if status.st_dev == self._device and self._is_new(status):
                    self.blocks += status.st_blocks
                    self.apparent += _content(status)
                    if stat.S_ISDIR(status.st_mode):
                        below.append(os.fsencode(entry.name))
        return below

    def _is_new(self, status: os.stat_result) -> bool:
        if stat.S_ISDIR(status.st_mode) or status.st_nlink == 1:
            return True
        if status.st_ino in self._linked:
            return False
        self._linked.add(status.st_ino)
        return True
