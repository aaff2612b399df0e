"""What the kernel does not say of a caller: its capabilities and its other groups (proc(5)).

A caller that is not in this process's PID namespace (pid 0) is judged by its user and group IDs.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

from pyfuse3 import RequestContext

from unionfs.fuse import native
from unionfs.syscalls.capability import (
    CAP_FOWNER,
    CAP_FSETID,
    has_capability,
    in_initial_user_namespace,
    knows_owner,
    other_groups,
)
from unionfs.upper.attributes import IsMember


class Caller(Protocol):
    """Who makes a request, as the kernel says it; ``pyfuse3.RequestContext`` is one."""

    @property
    def uid(self) -> int:
        """The user ID of files that he makes."""

    @property
    def gid(self) -> int:
        """Their group ID."""

    @property
    def pid(self) -> int:
        """The process; 0 for one that is not in this process's PID namespace."""

    @property
    def umask(self) -> int:
        """The permissions (octal) that he gives to no new file."""


def killer() -> IsMember | None:
    """Return who makes the request read last, if set-id bits have to go for that; else None.

    For its handler, before it awaits anything.
    """
    if not native.kills_privileges():
        return None
    _, gid, pid = native.caller()
    return partial(_is_member, gid, pid)


def killer_in(ctx: RequestContext) -> IsMember | None:
    """Return the caller of *ctx*, if set-id bits have to go when it changes content; else None."""
    return None if capable(ctx, CAP_FSETID) else partial(_is_member, ctx.gid, ctx.pid)


def capable(ctx: RequestContext, capability: int) -> bool:
    """Return whether a caller, whoever he is, has *capability* on this machine; not as root of a
    user namespace of his own (in the kernel, too, capable()).
    """
    if ctx.pid == 0:
        return ctx.uid == 0
    try:
        if not has_capability(capability, ctx.pid):
            return False
        return in_initial_user_namespace(ctx.pid)
    except PermissionError:  # his namespace is not for an ordinary user's daemon to see
        return ctx.uid == 0
    except OSError:
        return False


def may_as_owner(ctx: RequestContext, owner: int) -> bool:
    """Return whether a caller may do with a file what *owner*, whose it is, may
    (inode_owner_or_capable()).
    """
    if ctx.uid == owner or ctx.pid == 0:
        return ctx.uid in (owner, 0)
    try:
        return has_capability(CAP_FOWNER, ctx.pid) and knows_owner(ctx.pid, owner)
    except OSError:
        return False


def _is_member(gid: int, pid: int, owner: int, group: int) -> bool:
    """Return whether a caller is in *group*, or may as much with a file of *owner* and *group*
    (in_group_or_capable()).

    Root of a user namespace is asked to lose set-id bits as everybody, and may that; but not where
    his namespace has no name for either, or whoever makes himself one would be in all groups.
    """
    if gid == group or pid == 0:
        return gid == group
    try:
        if group in other_groups(pid):
            return True
        return has_capability(CAP_FSETID, pid) and knows_owner(pid, owner, group)
    except OSError:
        return False
