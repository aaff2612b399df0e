"""Runs a program as root of a user namespace that has 65,536 IDs, none of them the machine's root.

``python -m tests.support.userns FIRST WORD…``: its ID 0 is FIRST outside. Needs root.
"""

from __future__ import annotations

import ctypes
import os
import sys

from tests.support import kernel

_CLONE_NEWUSER = 0x10000000
_COUNT = 65536


def main() -> None:
    first, words = int(sys.argv[1]), sys.argv[2:]
    entered, mapped = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _unshare(_CLONE_NEWUSER | kernel.CLONE_NEWNS)
        os.write(entered[1], b"x")
        os.read(mapped[0], 1)
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        os.execvp(words[0], words)
    os.read(entered[0], 1)
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{pid}/{name}", "w") as table:
            table.write(f"0 {first} {_COUNT}")
    os.write(mapped[1], b"x")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) < 0:
        raise OSError(ctypes.get_errno(), "unshare")


if __name__ == "__main__":
    main()
