"""Opening a store: see the package's docstring for what is where and which rules hold."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from unionfs.digest import Digest
from unionfs.errors import UnavailableError
from unionfs.ondisk.flavour import Flavour
from unionfs.store.blobs import Blobs
from unionfs.store.containers import Containers
from unionfs.store.database import Database, DatabaseUnavailableError
from unionfs.store.garbage import Garbage, Lease, Sweep
from unionfs.store.images import Images
from unionfs.store.indexes import Indexes
from unionfs.store.layers import Layers
from unionfs.store.layout import Layout
from unionfs.store.parts import Parts
from unionfs.store.scratch import Scratch
from unionfs.syscalls import xattr

if TYPE_CHECKING:
    from unionfs.store.check import Problem

_PROBE = b"store-probe"


class StoreUnavailableError(UnavailableError):
    """The store's directories cannot be made, read or written by this user."""


class Store:
    """A store: ``layers``, their ``blobs``, ``images``, their ``indexes``, ``containers``.

    ``flavour`` is that of its marks.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._garbage = Garbage(parts)
        self.root = parts.layout.root
        self.flavour = parts.flavour
        self.blobs = Blobs(parts)
        self.indexes = Indexes(parts)
        self.layers = Layers(parts, self.blobs)
        self.images = Images(parts, self.layers, self._garbage)
        self.containers = Containers(parts, self.images)

    @classmethod
    def open(cls, root: str, *, create: bool = True) -> Store:
        """Open the store at *root*; make it first if it is not there and *create* says so.

        Raises NoStoreError, NotAStoreError, NewerStoreError, BadDatabaseError,
        StoreUnavailableError, DatabaseUnavailableError.
        """
        layout = Layout(root)
        try:
            if not create:
                layout.require()
            return cls(_opened(layout))
        except OSError as error:
            raise StoreUnavailableError(
                f"cannot use the store at {layout.root}: {error.strerror}"
            ) from error

    def lease(self, diff_ids: Iterable[Digest] = ()) -> AbstractContextManager[Lease]:
        """Keep layers from being collected while the ``with`` block runs, as ``Garbage.lease``."""
        return self._garbage.lease(diff_ids)

    def sweep(self, sweep: Sweep, *, blobs: bool = False) -> None:
        """Let *sweep* have the garbage, as ``Garbage.sweep``."""
        self._garbage.sweep(sweep, blobs=blobs)

    def problems(self, restore: Callable[[Digest], None]) -> Iterator[Problem]:
        """Yield what is wrong with the store, as ``Checker.problems``.

        *restore* makes the directory of a layer again, of what is left of it.
        """
        parts = self._parts, self.blobs, self.layers, self.images, self.containers, self._garbage
        from unionfs.store.check import Checker  # it reads recipes, which a mount has no use for

        return Checker(*parts, restore).problems()

    @contextmanager
    def scratch(self) -> Iterator[str]:
        """A temporary directory on the store's filesystem, gone at the end of the block."""
        with self._parts.scratch.directory() as scratch:
            yield scratch.path

    def failures_named(self, doing: str) -> AbstractContextManager[None]:
        """Turn OSError in the block into StoreFullError or StoreFailedError, *doing* in it."""
        return self._parts.failures_named(doing)

    def close(self) -> None:
        """Close the database; closing twice is fine."""
        self._parts.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _opened(layout: Layout) -> Parts:
    if not layout.exists():
        layout.make()
    scratch = Scratch(layout.tmp, layout.locks, layout.spare)
    database = Database(layout.database)
    try:
        if database.is_new():
            layout.make()  # again: whoever made the file may have been killed before the rest
            with scratch.locked("store"):
                database.create(_possible_flavour(layout.tmp))
        scratch.keep_spare()
        flavour = database.prepare()
        if database.is_old():
            _bring_up(layout, database, scratch)
        return Parts(layout, database, scratch, flavour)
    except BaseException:
        database.close()
        raise


def _bring_up(layout: Layout, database: Database, scratch: Scratch) -> None:
    """Give an older store what this version has more; on a full disk that is for another time."""
    try:
        with scratch.locked("store"):
            layout.make()
            database.bring_up()
    except (OSError, DatabaseUnavailableError):
        database.stand_in()


def _possible_flavour(directory: str) -> Flavour:
    """Return the flavour of attributes that this user can write in *directory*.

    ``trusted.*`` needs CAP_SYS_ADMIN in the initial user namespace, which only trying tells.
    """
    for flavour in (Flavour.TRUSTED, Flavour.USER):
        try:
            xattr.set_(os.fsencode(directory), flavour.prefix + _PROBE, b"y")
            xattr.remove(os.fsencode(directory), flavour.prefix + _PROBE)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EACCES):
                raise
        else:
            return flavour
    raise StoreUnavailableError(
        f"the filesystem of {directory} keeps no extended attributes, which layers need"
    )
