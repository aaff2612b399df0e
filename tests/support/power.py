"""A disk that can lose its power: an ext4 filesystem on a loop device.

What the filesystem has not yet written is in the machine's memory only. So a copy of the image that
it is on, taken while it is mounted, is what a machine finds after a power cut at that moment. The
journal is committed by nobody but fsync(2) and its like: the commit interval is an hour.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

SIZE = 24 << 20  # bytes
_PIECE = 8 << 20


class Disk:
    """A new ext4 filesystem in *folder*, mounted on ``root`` while entered."""

    def __init__(self, folder: bytes) -> None:
        self.root = folder + b"/disk"
        self._image = folder + b"/disk.img"
        os.mkdir(self.root)

    def __enter__(self) -> Disk:
        with open(self._image, "wb") as image:
            image.truncate(SIZE)
        # Without lazy initialisation, which would write now and then.
        _run(b"mkfs.ext4", b"-q", b"-F", b"-b", b"4096", b"-J", b"size=4", *_EAGER, self._image)
        _run(b"mount", b"-o", b"loop,commit=3600", self._image, self.root)
        with open(self.root + b"/other", "wb"):
            pass
        self._other = os.open(self.root + b"/other", os.O_WRONLY)
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._other)
        _run(b"umount", self.root)
        os.unlink(self._image)

    def commit(self) -> None:
        """Let the journal be written, by an fsync that has nothing to do with any other file.

        All changes of names and attributes so far are on the disk then; data of other files that
        has no blocks yet is not.
        """
        os.pwrite(self._other, os.urandom(16), 0)
        os.fsync(self._other)

    def sync(self) -> None:
        """Bring everything to the disk."""
        _run(b"sync", b"-f", self.root)

    def cut(self, copy: bytes) -> None:
        """Make *copy* what the disk holds if the power goes now."""
        source = os.open(self._image, os.O_RDONLY)
        target = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.ftruncate(target, SIZE)
            at = 0
            while at < SIZE:
                data = os.pread(source, _PIECE, at)
                os.pwrite(target, data, at)
                at += len(data)
        finally:
            os.close(source)
            os.close(target)


_EAGER = (b"-E", b"lazy_itable_init=0,lazy_journal_init=0,nodiscard")


@contextmanager
def after_power_cut(copy: bytes, root: bytes) -> Iterator[None]:
    """Mount the disk *copy* on *root* as after a boot: the journal replayed, and all checked."""
    done = subprocess.run(["e2fsck", "-fy", copy], capture_output=True, check=False)
    assert done.returncode in (0, 1), done.stdout.decode()
    os.makedirs(root, exist_ok=True)
    _run(b"mount", b"-o", b"loop", copy, root)
    try:
        yield
    finally:
        _run(b"umount", root)


def _run(*words: bytes) -> None:
    subprocess.run(words, check=True, capture_output=True)
