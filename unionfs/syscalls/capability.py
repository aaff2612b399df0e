"""Which capabilities and groups a process has (capabilities(7), proc(5))."""

from __future__ import annotations

import os

CAPABILITY = b"security.capability"  # the attribute of a file's own capabilities

CAP_CHOWN = 0
CAP_DAC_OVERRIDE = 1
CAP_FOWNER = 3
CAP_FSETID = 4
CAP_SYS_ADMIN = 21
_INITIAL_USER_NAMESPACE = 0xEFFFFFFD  # PROC_USER_INIT_INO, linux/proc_ns.h


def has_capability(number: int, pid: int | None = None) -> bool:
    """Return whether process *pid* (None: this one) has capability *number* in effect.

    In whatever user namespace it is. Raises OSError if there is no such process.
    """
    with open(f"/proc/{'self' if pid is None else pid}/status", "rb") as status:
        for line in status:
            if line.startswith(b"CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
    return False


def other_groups(pid: int) -> frozenset[int]:
    """Return the supplementary groups of process *pid*. Raises OSError if there is none."""
    with open(f"/proc/{pid}/status", "rb") as status:
        for line in status:
            if line.startswith(b"Groups:"):
                return frozenset(map(int, line.split()[1:]))
    return frozenset()


def in_initial_user_namespace(pid: int | None = None) -> bool:
    """Return whether the user IDs of process *pid* (None: this one) are the machine's own.

    Raises OSError if there is no such process, or it is not this one's to look at.
    """
    found = os.stat(f"/proc/{'self' if pid is None else pid}/ns/user")
    return found.st_ino == _INITIAL_USER_NAMESPACE


def knows_owner(pid: int, owner: int, group: int | None = None) -> bool:
    """Return whether the user namespace of process *pid* has names for both, as we call them.

    (For *owner* alone, if there is no *group* to ask about.) Without them, no capability there is
    worth anything with a file of theirs (in the kernel capable_wrt_inode_uidgid()). Raises OSError
    if there is no such process.
    """
    try:
        here = os.stat("/proc/self/ns/user").st_ino
        if os.stat(f"/proc/{pid}/ns/user").st_ino == here:
            return True
    except PermissionError:
        pass  # another user's; his maps are open to all (user_namespaces(7))
    if not _is_mapped(pid, "uid_map", owner):
        return False
    return group is None or _is_mapped(pid, "gid_map", group)


def _is_mapped(pid: int, table: str, number: int) -> bool:
    with open(f"/proc/{pid}/{table}", "rb") as lines:
        for line in lines:
            _, first, count = map(int, line.split())
            if first <= number < first + count:
                return True
    return False
