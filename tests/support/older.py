"""The mount program on a kernel that has not the newest calls: ``python -m tests.support.older``.

A seccomp filter refuses them, as it does in some containers: with ENOSYS, or with EPERM, which
older ones say of all that they do not know.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

LISTXATTRAT = 465  # Linux 6.13
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def program(error: int) -> list[str]:
    """Return the mount program for which they fail with *error*."""
    return [sys.executable, "-m", "tests.support.older", str(error)]


def refuse(number: int, error: int) -> None:
    """Have the system call *number* fail with *error* in this process and its children."""
    steps = ((_LOAD, 0, 0, 0), (_EQUAL, 0, 1, number))
    steps += ((_RETURN, 0, 0, _ERRNO | error), (_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    filter_ = struct.pack("@HP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for words in ((_PR_SET_NO_NEW_PRIVS, 1, 0), (_PR_SET_SECCOMP, _MODE_FILTER, filter_)):
        if libc.prctl(*words, 0, 0):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main() -> None:
    refuse(LISTXATTRAT, int(sys.argv.pop(1)))
    from unionfs.cli import main as unionfs

    sys.argv[0] = "unionfs"
    unionfs.entry()


if __name__ == "__main__":
    main()
