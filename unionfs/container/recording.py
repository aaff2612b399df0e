"""What is recorded of a mount besides its requests: which stack they were answered from."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from unionfs import __version__
from unionfs.container.state import container_of_fsname, image_of_fsname
from unionfs.container.subject import find_source
from unionfs.errors import NotFoundError
from unionfs.inspect.recording import Header
from unionfs.store.store import Store
from unionfs.syscalls.mount import mounts_at


def header(
    store: Store | None, target: bytes, unseen: Sequence[str], chosen: Sequence[str]
) -> Header:
    """Return the header of a recording of the mount on *target* that begins now.

    *unseen* says which requests do not come to its daemon, *chosen* has the words that choose some
    of those that do. Raises UnknownMountError where its
    layers cannot be found out.
    """
    source = find_source(store, os.fsdecode(target))
    image = _image_of(store, os.fsdecode(mounts_at(target)[-1].source))
    return Header(target, time.time_ns(), source, image, tuple(unseen), tuple(chosen), __version__)


def _image_of(store: Store | None, fsname: str) -> str | None:
    """Return the ID of the image of the mount whose source is called *fsname*, None without one."""
    image, container = image_of_fsname(fsname), container_of_fsname(fsname)
    if image is not None:
        return f"sha256:{image}"
    if store is None or container is None:
        return None
    try:
        return str(store.containers.resolve(container).image_id)
    except NotFoundError:
        return None  # another store's
