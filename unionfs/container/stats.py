"""What a mount says of its own work, for ``unionfs stats``."""

from __future__ import annotations

import errno
import json
import os
from typing import Any

from unionfs.container.state import read_state
from unionfs.daemon import client
from unionfs.errors import ConflictError, NotFoundError, UnavailableError
from unionfs.store.store import Store
from unionfs.syscalls import xattr

STATS = b"user.unionfs.stats"  # fuse.told


class SeveralMountsError(ConflictError):
    """A container is mounted at several places, each with a daemon of its own."""


# What a daemon does not count that was started before an upgrade, and goes on as it is.
_LATER = {"answered_directly": 0, "files_ahead": {"asked": 0, "foreseen": 0}}


def find_mount(store: Store | None, text: str) -> bytes:
    """Return the mount point that *text* names: a mount point of ours, or a mounted container.

    Raises NotFoundError, AmbiguousError, and SeveralMountsError naming them.
    """
    target = client.resolve(os.fsencode(text))
    if client.is_ours(target):
        return target
    if "/" in text or text in (".", ".."):
        raise NotFoundError(f"{text} is not a mount point of unionfs")
    if store is None:
        raise NotFoundError(f"no such container or mount point: {text}")
    container = store.containers.resolve(text)
    mounts = read_state().of_container(container.id)
    if not mounts:
        raise NotFoundError(f"container {container.name} is not mounted here")
    if len(mounts) > 1:
        places = ", ".join(mounted.shown for mounted in mounts)
        raise SeveralMountsError(f"container {container.name} is mounted at {places}: name one")
    return mounts[0].target


def read_stats(target: bytes) -> dict[str, Any]:
    """Return what the daemon of the mount on *target* says (``fuse.measured`` has its form).

    Raises UnavailableError where it does not say, with the reason.
    """
    where = os.fsdecode(target)
    try:
        value = xattr.get(target, STATS)
    except OSError as error:
        if error.errno in client.DEAD:
            raise UnavailableError(f"{where}: the mount's daemon is gone") from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise UnavailableError(
                f"{where} is another user's mount: it tells its owner and root"
            ) from None
        raise
    if value is None:
        raise UnavailableError(
            f"{where} does not tell: it has noxattrinfo, noxattrs or another version's daemon"
        )
    return {**_LATER, **json.loads(value)}
