"""Who makes a call: any user and groups, any capabilities, root of a user namespace perhaps.

One process makes all calls of a case, so that descriptors go from caller to caller. It becomes each
in turn, and root again between: only the effective capabilities are given up.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import random
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

USERS = (0, 1000, 1001)
GROUPS = (0, 1000, 1001, 3000)
MEMBERSHIPS = (*GROUPS, 5000)
# linux/capability.h: chown, dac_override, dac_read_search, fowner, fsetid, linux_immutable,
# sys_admin, mknod, setfcap
CAPABILITIES = (0, 1, 2, 3, 4, 9, 21, 27, 31)
_ALL = (1 << 40) - 1
# Of a namespace: the first of the IDs that it has besides root's, and how many
_NAMESPACES = ((0, 0), (1000, 2), (3000, 1), (1000, 3000))
_BESIDES = 100  # and by how much higher they are called in there
_IN_A_NAMESPACE, _SOME_CAPABILITY, _FULL_ROOT = 0.08, 0.3, 0.3  # how often

_PR_SET_DUMPABLE, _PR_SET_SECUREBITS, _NO_SETUID_FIXUP = 4, 28, 4
_CAPABILITY_VERSION_3, _CLONE_NEWUSER = 0x20080522, 0x10000000
_HALF = 32  # bits of capabilities in each word of capset(2)
_PIECE = 65536

_libc = ctypes.CDLL(None, use_errno=True)
Call = Callable[[], Any]


class Who(NamedTuple):
    """A caller. *capabilities*: a mask; *namespace*: he is root of one that has these IDs too."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    capabilities: int = 0
    namespace: tuple[int, int] | None = None


ROOT = Who(0, 0, (), _ALL)


def some_who(rng: random.Random) -> Who:
    """Draw a caller."""
    uid = rng.choice(USERS)
    groups = tuple(sorted(rng.sample(MEMBERSHIPS, rng.choice((0, 0, 1, 2)))))
    some = sum(1 << one for one in CAPABILITIES if rng.random() < _SOME_CAPABILITY)
    mask = rng.choice((0, 0, some))
    if uid == 0 and rng.random() < _FULL_ROOT:
        mask = _ALL
    inside = rng.random() < _IN_A_NAMESPACE
    namespace = rng.choice(_NAMESPACES) if inside else None
    return Who(uid, rng.choice(GROUPS), groups, mask, namespace)


def prepare() -> None:
    """Let this process keep its capabilities when it changes its user ID."""
    _check(_libc.prctl(_PR_SET_SECUREBITS, _NO_SETUID_FIXUP, 0, 0, 0))
    os.umask(0)


def as_who(who: Who, call: Call) -> Any:
    """Return what *call*, which raises nothing, returns to *who*."""
    if who.namespace is not None:
        return _in_namespace(who, call)
    _become(who)
    try:
        return call()
    finally:
        _become(ROOT)


def _become(who: Who) -> None:
    """Be *who*, able to be root again: what is permitted stays, and so does the saved user ID."""
    permitted = _permitted()
    _capset(permitted, permitted)
    os.setresuid(who.uid, who.uid, 0)
    os.setresgid(who.gid, who.gid, 0)
    os.setgroups(who.groups)
    _capset(who.capabilities & permitted, permitted)


def _permitted() -> int:
    with open("/proc/self/status") as file:
        found = [line.split()[1] for line in file if line.startswith("CapPrm")]
    return int(found[0], 16)


def _capset(effective: int, permitted: int) -> None:
    low = (1 << _HALF) - 1
    words = effective & low, permitted & low, 0, effective >> _HALF, permitted >> _HALF, 0
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, struct.pack("=6I", *words)))


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _in_namespace(who: Who, call: Call) -> Any:
    """As ``as_who``, in a child; descriptors that he opens are gone with him."""
    ours, theirs = os.pipe()
    go, ready = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(ready)
        _be_root_of_a_namespace(who, call, go, theirs)
    os.close(theirs)
    os.close(go)
    with open(ours, "rb") as answer, open(ready, "wb") as told:
        answer.read(1)
        _map(pid, who)
        told.close()
        data = answer.read(_PIECE)
    os.waitpid(pid, 0)
    return pickle.loads(data)


def _be_root_of_a_namespace(who: Who, call: Call, go: int, answer: int) -> None:
    """Never returns. Says when there is a namespace, waits for its IDs, answers."""
    try:
        os.setgroups(who.groups)
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
        _capset(0, 0)
        _check(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0))  # so that root may write its maps
        _check(_libc.unshare(_CLONE_NEWUSER))
        os.write(answer, b"x")
        os.read(go, 1)
        os.write(answer, pickle.dumps(call()))
    finally:
        os._exit(0)


def _map(pid: int, who: Who) -> None:
    first, count = who.namespace or (0, 0)
    for kind, own in (("uid", who.uid), ("gid", who.gid)):
        rows = f"0 {own} 1\n"
        if count and not first <= own < first + count:
            rows += f"{first + _BESIDES} {first} {count}\n"
        with open(f"/proc/{pid}/{kind}_map", "w") as file:
            file.write(rows)
