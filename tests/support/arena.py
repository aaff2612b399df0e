"""Where tests that mount put their layers: a tmpfs of their own, where syncing costs nothing."""

from __future__ import annotations

import os
import tempfile

from tests.support import kernel
from tests.support.stacks import ORDINARY


def holds_user_attributes(folder: bytes) -> bool:
    """tmpfs has user attributes since Linux 6.6; the layers need them."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        try:
            os.setxattr(file.fileno(), "user.probe", b"1")
        except OSError:
            return False
    return True


def make_arena(folder: bytes) -> bool:
    """Mount a tmpfs on *folder* for layers that need no disk; return whether that was done.

    UNIONFS_TEST_DISK=1 keeps the layers on the disk's own filesystem, and so does an ordinary user.
    """
    if os.environ.get("UNIONFS_TEST_DISK") or ORDINARY:
        return False
    kernel.mount(b"unionfs-test", folder, b"tmpfs", 0, b"mode=755")
    if holds_user_attributes(folder):
        return True
    kernel.umount(folder)
    return False
