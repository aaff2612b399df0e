"""The mount program without root's access to files: ``python -m tests.support.plain_user WORDS…``.

As in an ordinary user's mount, a file's mode counts for the daemon too. (The interpreter of the
tests may be where ordinary users cannot execute it, so its user stays root, with less capability.)
"""

from __future__ import annotations

import ctypes
import sys

_VERSION = 0x20080522  # linux/capability.h, _LINUX_CAPABILITY_VERSION_3
_DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER = 1, 2, 3


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def give_up_access() -> None:
    """Take this thread's capabilities to read, write and change any file away."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = _Header(_VERSION, 0), (_Data * 2)()
    assert libc.capget(ctypes.byref(header), data) == 0
    for capability in (_DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER):
        data[0].effective &= ~(1 << capability)
    assert libc.capset(ctypes.byref(header), data) == 0


def main() -> None:
    from unionfs.cli import main as program
    from unionfs.fuse.session import Session

    mount = Session.mount

    def mount_plainly(self: Session) -> None:
        mount(self)
        give_up_access()

    Session.mount = mount_plainly
    sys.argv[0] = "unionfs"
    sys.exit(program.entry())


if __name__ == "__main__":
    main()
