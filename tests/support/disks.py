"""Disks of the tests' own: on a loop device, ext4 where nothing else is said.

And what a loss of power at this moment leaves of one.

The filesystem hears of no time to commit, so what reaches the image is what somebody synced, and a
copy of the image is the disk of a machine whose power went.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack

import pytest

from tests.support import kernel

_FORCED = {"ext4": ["-F"], "btrfs": ["-f"], "xfs": ["-f"]}  # a file is as good as a device
_NEVER = "3600"  # seconds between ext4's own commits; a test is over long before


class Disk:
    """A filesystem of *size* bytes in the file *image*, mounted at ``root``."""

    def __init__(
        self, image: bytes, *, size: int = 64 << 20, made: bool = True, kind: str = "ext4"
    ) -> None:
        """Make the filesystem (with *made*), and mount it. Raises CalledProcessError."""
        self.image = image
        self.root = image + b".d"
        if made:
            with open(image, "wb") as file:
                file.truncate(size)
            subprocess.run([f"mkfs.{kind}", "-q", *_FORCED[kind], image], check=True)
        os.mkdir(self.root)
        self._commit = [f"commit={_NEVER}"] if kind == "ext4" else []
        self._mount()

    def _mount(self) -> None:
        words = ["mount", "-o", ",".join(["loop", *self._commit]), self.image, self.root]
        subprocess.run(words, check=True)

    def after_power_loss(self, image: bytes) -> Disk:
        """Return the disk *image* as it is when the power goes now."""
        self.cut(image)
        return Disk(image, made=False)

    def commit(self) -> None:
        """Let the journal be written, by an fsync that has nothing to do with any other file.

        All changes of names and attributes so far are on the disk then; data of other files that
        has no blocks yet is not. The worst that a filesystem may do.
        """
        other = os.open(self.root + b"/other", os.O_WRONLY | os.O_CREAT, 0o600)
        os.pwrite(other, os.urandom(16), 0)
        os.fsync(other)
        os.close(other)

    def cut(self, copy: bytes) -> None:
        """Make *copy* what the disk holds if the power goes now, for ``Disk(copy, made=False)``."""
        shutil.copyfile(self.image, copy)

    def forget(self) -> None:
        """Have nothing of it in memory: it is unmounted, and mounted again."""
        kernel.umount(self.root)
        self._mount()

    def sync(self) -> None:
        """Bring everything to the disk."""
        subprocess.run(["sync", "-f", self.root], check=True)

    def __enter__(self) -> Disk:
        return self

    def __exit__(self, *error: object) -> None:
        kernel.umount(self.root)


def disk_of(kind: str, disks: ExitStack, image: bytes, *, size: int) -> bytes:
    """Return the root of a new filesystem of that *kind* in *image*, which *disks* unmounts.

    Skips where the kernel has no such filesystem.
    """
    try:
        return disks.enter_context(Disk(image, size=size, kind=kind)).root
    except subprocess.CalledProcessError:
        skip_if_unknown(kind)
        raise


def skip_if_unknown(kind: str) -> None:
    """Skip where the kernel has no filesystem of that *kind*; one was to be mounted already."""
    with open("/proc/filesystems") as known:  # a module among them is loaded by now
        if f"\t{kind}\n" not in known.read():
            pytest.skip(f"the kernel has no {kind}")


def make_disk(at: bytes, image: bytes) -> bool:
    """Mount a new ext4 on *at*, kept in the sparse file *image*; return whether that was done.

    Not where the machine has no loop devices for us. On tmpfs it syncs in no time.
    """
    with open(image, "wb") as file:
        file.truncate(1 << 30)
    subprocess.run(["mkfs.ext4", "-q", "-i", "4096", "-m", "0", image], check=True)
    done = subprocess.run(["mount", "-o", "loop", image, at], stderr=subprocess.PIPE)
    return done.returncode == 0


def drop_disk(at: bytes, image: bytes) -> None:
    kernel.umount(at)
    os.unlink(image)
