"""Everything that can be looked at for faults: the store, then each container's upper.

The upper of a mounted container is its daemon's, and is left alone.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from unionfs.container.indexing import has_index, make_index
from unionfs.container.locks import mount_lock
from unionfs.errors import NotFoundError, UnionfsError, os_error_line
from unionfs.image.restore import restore_layer
from unionfs.store.records import ContainerRecord, ImageRecord
from unionfs.store.store import Store
from unionfs.upper.check import check_upper

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of *what*: what it is, and what was done about it, if something was.

    *harmless*: no fault, but something to know. *repairable*: nothing was done, and can be.
    """

    what: str
    says: str
    done: str | None = None
    harmless: bool = False
    repairable: bool = False


def check(store: Store, *, repair: bool) -> Iterator[Finding]:
    """Yield what is wrong with *store* and its containers; put right what can be with *repair*.

    Raises BadDatabaseError, DatabaseUnavailableError.
    """
    for problem in store.problems(partial(restore_layer, store)):
        fix = problem.repair
        yield _finding(problem.what, problem.says, problem.remedy, fix, problem.harmless, repair)
    for image in store.images.list():
        yield from _index(store, image, repair=repair)
    for container in store.containers.list():
        yield from _container(store, container, repair=repair)


def _index(store: Store, image: ImageRecord, *, repair: bool) -> Iterator[Finding]:
    """Tell of an image whose mounts read its layers one by one, which is no fault."""
    what = f"image {image.names[0] if image.names else image.id}"
    try:
        if not has_index(store, image):
            says = "has no index of what its layers show: its mounts are slower"
            made = repair and make_index(store, image)
            done = "made it" if made else None
            yield Finding(what, says, done, harmless=True, repairable=not repair)
    except (UnionfsError, OSError):
        pass  # a layer is missing or being removed; of that the store's own check tells


def _container(store: Store, container: ContainerRecord, *, repair: bool) -> Iterator[Finding]:
    what = f"container {container.name}"
    home = os.fsencode(store.containers.path(container.id))
    try:
        with mount_lock(store, container), _held(home + b"/work") as is_free:
            container = store.containers.resolve(container.id)
            if not is_free:
                yield Finding(what, "is mounted: its upper was not looked at", harmless=True)
                return
            lowers = [os.fsencode(path) for path in store.images.stack(container.image_id)]
            for flaw in check_upper(lowers, home + b"/upper", home + b"/work", store.flavour):
                says = f"{os.fsdecode(flaw.path)}: {flaw.says}"
                yield _finding(what, says, flaw.remedy, flaw.repair, flaw.harmless, repair)
    except NotFoundError:
        return  # removed meanwhile; or parts of it are missing, which was said before
    except (UnionfsError, OSError) as error:
        reason = os_error_line(error) if isinstance(error, OSError) else str(error)
        yield Finding(what, f"its upper cannot be looked at: {reason}")


@contextmanager
def _held(work: bytes) -> Iterator[bool]:
    """Yield whether no daemon has the work directory; then none can get it in the block."""
    fd = os.open(work, _DIRECTORY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _finding(
    what: str,
    says: str,
    remedy: str,
    fix: Callable[[], None] | None,
    harmless: bool,
    repair: bool,
) -> Finding:
    if fix is None or not repair:
        return Finding(what, says, None, harmless, repairable=fix is not None)
    try:
        fix()
    except (UnionfsError, OSError) as error:
        reason = os_error_line(error) if isinstance(error, OSError) else str(error)
        return Finding(what, f"{says}; it could not be repaired: {reason}")
    return Finding(what, says, remedy, harmless)
