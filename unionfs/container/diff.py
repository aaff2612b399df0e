"""What a container changed against its image."""

from __future__ import annotations

import os
from collections.abc import Iterator

from unionfs.store.records import ContainerRecord
from unionfs.store.store import Store
from unionfs.upper.changes import Change, changes


def diff(store: Store, container: ContainerRecord) -> Iterator[Change]:
    """Yield the changes of *container*, sorted by path, as ``docker diff`` has them.

    Works on the upper and work directories, mounted or not. Raises OSError.
    """
    lowers = [os.fsencode(path) for path in store.images.stack(container.image_id)]
    home = os.fsencode(store.containers.path(container.id))
    return changes(lowers, home + b"/upper", home + b"/work", store.flavour)
