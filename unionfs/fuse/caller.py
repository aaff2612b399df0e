"""What the caller of a request may do, where the kernel leaves that question to the filesystem.

A caller that is not in this process's PID namespace (pid 0), or has just ended, is judged by its
user and group ID.
"""

from __future__ import annotations

from pyfuse3 import RequestContext

from unionfs.syscalls.capability import CAP_FSETID, groups_of, has_capability


def may(ctx: RequestContext, capability: int) -> bool:
    """Return whether the caller has *capability*; one whose user ID is not 0 has none."""
    if ctx.uid != 0 or ctx.pid == 0:
        return ctx.uid == 0
    try:
        return has_capability(capability, ctx.pid)
    except OSError:
        return True


def may_keep_set_id(ctx: RequestContext) -> bool:
    """Return whether set-id bits of what the caller changes stay (CAP_FSETID)."""
    return may(ctx, CAP_FSETID)


def in_group(ctx: RequestContext, gid: int) -> bool:
    """Return whether the caller is in group *gid*, by supplementary groups too."""
    if ctx.gid == gid:
        return True
    try:
        return ctx.pid != 0 and gid in groups_of(ctx.pid)
    except OSError:
        return False
