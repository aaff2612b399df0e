"""A disk of the tests' own: ext4 in an image, so that the oracle is ext4 wherever the tests run."""

from __future__ import annotations

import os
import subprocess

from tests.support import kernel


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
