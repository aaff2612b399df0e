"""What is there before the calls: a small tree, each entry of it in some state of a mount."""

from __future__ import annotations

import os
import random
import stat
import struct
from collections.abc import Iterable
from typing import NamedTuple

from tests.support.anycalls.callers import GROUPS, USERS

ACL, DEFAULT_ACL = "system.posix_acl_access", "system.posix_acl_default"
CAPABILITY = "security.capability"
# All of set-id bits, sticky bits, and who may do what, that matter to the kernel in some way
MODES = (
    *(0o644, 0o600, 0o666, 0o777, 0o755, 0o2755, 0o2644, 0o2666, 0o6777, 0o4755, 0o1777, 0o3777),
    *(0o2777, 0o2770, 0o2745, 0o2705, 0o060, 0o006, 0o000, 0o1770, 0o4666, 0o111, 0o222),
)
# ``lower``: only a layer has it; ``chmod`` and ``write``: copied up by that; ``link``: g is, by a
# second name; ``upper``: made in the mount.
STATES = ("lower", "lower", "upper", "chmod", "write", "link")
KINDS = {
    "d": "dir", "e": "dir", "d/s": "dir", "f": "file", "g": "file", "h": "file", "d/x": "file",
    "e/y": "file", "l": "link", "p": "fifo",
}  # fmt: skip
TARGET = "f"  # of symbolic links
_OPENING = (0o777, 0o775, 0o733)  # without one of them directories would end most paths
_MOSTLY = 0.8
# A capability of everybody's, one of the root of ID 1000's namespace, and what is none
_CAPABILITIES = (
    struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0),
    struct.pack("<6I", 0x03000001, 1 << 10, 0, 0, 0, 1000),
)
NO_CAPABILITY = b"bad"
_NAMES = ("user.a", "user.b", "trusted.t", CAPABILITY, "security.x", *[ACL] * 3, *[DEFAULT_ACL] * 2)
_VALUES = (b"", b"v", b"value")
# posix_acl_xattr.h: the version, and the tags
_ACL_VERSION = 2
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER, _NOBODY = 1, 2, 4, 8, 16, 32, 0xFFFFFFFF

Xattr = tuple[str, bytes]


class Entry(NamedTuple):
    """A name of the tree; *state*: see STATES."""

    path: str
    state: str
    kind: str
    mode: int
    uid: int
    gid: int
    xattrs: tuple[Xattr, ...] = ()

    def make(self, top: str) -> None:
        """Make it below *top*."""
        at = f"{top}/{self.path}"
        _make(at, self.kind, self.path)
        os.lchown(at, self.uid, self.gid)
        if self.kind == "link":
            return
        others = [(name, value) for name, value in self.xattrs if name != ACL]
        _set_all(at, others)
        os.chmod(at, self.mode)
        _set_all(at, set(self.xattrs) - set(others))  # an ACL says what the mode is

    def change(self, top: str) -> None:
        """Do in *top* what brings it into its state, as root."""
        at = f"{top}/{self.path}"
        if self.state == "chmod" and self.kind != "link":
            os.chmod(at, stat.S_IMODE(os.stat(at).st_mode))
        elif self.state == "write" and self.kind == "file":
            with open(at, "a") as file:
                file.write("+")
        elif self.state == "link" and self.path == "g":
            os.link(at, f"{top}/n")


def _make(at: str, kind: str, path: str) -> None:
    if kind == "dir":
        os.mkdir(at)
    elif kind == "link":
        os.symlink(TARGET, at)
    elif kind == "fifo":
        os.mkfifo(at)
    else:
        with open(at, "w") as file:
            file.write(path * 5)


def _set_all(at: str, xattrs: Iterable[Xattr]) -> None:
    for name, value in xattrs:
        os.setxattr(at, name, value)


def build(top: str, tree: Iterable[Entry]) -> None:
    """Make in *top* what a layer has."""
    for entry in tree:
        if entry.state != "upper":
            entry.make(top)


def finish(top: str, tree: Iterable[Entry]) -> None:
    """Make in *top* what the mount has more, and change what was changed there before."""
    for entry in tree:
        if entry.state == "upper":
            entry.make(top)
    for entry in tree:
        entry.change(top)


def some_acl(rng: random.Random) -> bytes:
    """Draw a valid ACL."""
    rows = [(_USER_OBJ, _NOBODY)]
    rows += [(_USER, uid) for uid in rng.sample((1000, 1001), rng.randrange(2))]
    rows += [(_GROUP_OBJ, _NOBODY)]
    rows += [(_GROUP, gid) for gid in rng.sample((1000, 3000), rng.randrange(2))]
    rows += [(_MASK, _NOBODY)] if len(rows) > 2 else []
    rows += [(_OTHER, _NOBODY)]
    packed = [struct.pack("<HHI", tag, rng.randrange(8), who) for tag, who in rows]
    return struct.pack("<I", _ACL_VERSION) + b"".join(packed)


def some_xattr(rng: random.Random) -> Xattr:
    """Draw an attribute to set; not every value is one that the kernel takes."""
    name = rng.choice(_NAMES)
    if name in (ACL, DEFAULT_ACL):
        return name, some_acl(rng)
    if name == CAPABILITY:
        return name, rng.choice((*_CAPABILITIES, _CAPABILITIES[0], NO_CAPABILITY))
    return name, rng.choice(_VALUES)


def _some_xattrs(rng: random.Random, kind: str) -> tuple[Xattr, ...]:
    drawn = dict(some_xattr(rng) for _ in range(rng.choice((0, 0, 1, 2))))
    if kind not in ("dir", "file"):
        return ()
    return tuple(
        (name, value)
        for name, value in drawn.items()
        if value != NO_CAPABILITY and (name != DEFAULT_ACL or kind == "dir")
    )


def _some_mode(rng: random.Random, kind: str, xattrs: tuple[Xattr, ...]) -> int:
    mode = rng.choice(MODES)
    if kind == "dir" and rng.random() < _MOSTLY:
        mode |= rng.choice(_OPENING)
    if any(name == CAPABILITY for name, _value in xattrs):
        mode &= ~(stat.S_ISUID | stat.S_ISGID)  # together they are one of README's limits
    return mode


def some_tree(rng: random.Random) -> tuple[Entry, ...]:
    """Draw what is there."""
    found: dict[str, Entry] = {}
    for path, kind in KINDS.items():
        xattrs = _some_xattrs(rng, kind)
        mode = _some_mode(rng, kind, xattrs)
        state = rng.choice(STATES)
        above = found.get(os.path.dirname(path))
        if above is not None and above.state == "upper":
            state = "upper"
        owner, group = rng.choice(USERS), rng.choice(GROUPS)
        found[path] = Entry(path, state, kind, mode, owner, group, xattrs)
    return tuple(found.values())
