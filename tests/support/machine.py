"""What this machine has, and where the tests put their layers."""

from __future__ import annotations

import os
import tempfile

from tests.support import kernel

FULL = bool(os.environ.get("UNIONFS_TEST_FULL"))


def has_fuse() -> bool:
    return os.access("/dev/fuse", os.R_OK | os.W_OK)


def is_root() -> bool:
    """Return whether we may mount: uid 0 is not enough in a container."""
    if os.getuid() != 0:
        return False
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) & (1 << 21))  # CAP_SYS_ADMIN


def has_kernel_overlay() -> bool:
    with open("/proc/filesystems") as table:
        return any(line.split()[-1] == "overlay" for line in table)


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

    UNIONFS_TEST_DISK=1 keeps the layers on the disk's own filesystem.
    """
    if os.environ.get("UNIONFS_TEST_DISK"):
        return False
    kernel.mount(b"unionfs-test", folder, b"tmpfs", 0, b"mode=755")
    if holds_user_attributes(folder):
        return True
    kernel.umount(folder)
    return False
