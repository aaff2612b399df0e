"""Enter a user namespace with the machine's own IDs, but without its root's privileges.

That is how rootless engines mount: no trusted attributes, no mount in the first namespace.
"""

from __future__ import annotations

import ctypes
import os

_NEWNS, _NEWUSER = 0x00020000, 0x10000000
_IDS = "0 0 65536"


def enter() -> None:
    """Move this process into a new user and mount namespace. Raises OSError.

    Only a process of the parent namespace may map more than one ID, so a child that stayed behind
    writes the maps.
    """
    ready, told = os.pipe()
    ourselves = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(told)
        os.read(ready, 1)
        os._exit(_write_maps(ourselves))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEWNS | _NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare: " + os.strerror(ctypes.get_errno()))
    os.write(told, b"x")
    if os.waitpid(child, 0)[1] != 0:
        raise PermissionError("the ID maps of the user namespace could not be written")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _write_maps(pid: int) -> int:
    try:
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
                file.write(_IDS)
    except OSError:
        return 1
    return 0
