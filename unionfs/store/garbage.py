"""What nothing refers to any more, and how it goes.

A layer stays while an image or a *living lease* refers to it. A lease is a row that names a scratch
directory: it lives exactly as long as the process that flocks that directory, so a killed import
keeps nothing alive, and nobody has to clean up after it by hand.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from unionfs.digest import Digest
from unionfs.errors import UnionfsError
from unionfs.store.blobs import BLOB, Blobs
from unionfs.store.indexes import Indexes
from unionfs.store.inuse import unused
from unionfs.store.layout import RECIPE, TREE
from unionfs.store.parts import Parts
from unionfs.store.records import BlobRecord
from unionfs.syscalls.treesize import tree_size

LAYER, FIXUP, CONTAINER = "layer", "fix-up", "container"
_UNUSED = """
SELECT diff_id FROM layers
WHERE diff_id NOT IN (SELECT diff_id FROM image_layers)
"""


class Lease:
    """Keeps layers from being collected until its ``with`` block ends."""

    def __init__(self, parts: Parts, holder: str) -> None:
        self._parts = parts
        self._holder = holder

    def add(self, diff_ids: Iterable[Digest]) -> None:
        """Keep *diff_ids* too, stored or not yet stored."""
        with self._parts.database.write() as rows:
            rows.executemany(
                "INSERT INTO leases VALUES (?, ?) ON CONFLICT DO NOTHING",
                [(self._holder, str(diff_id)) for diff_id in diff_ids],
            )


class Trash(NamedTuple):
    """Something that went, or would: its *kind*, its *name*, its *size* in bytes on disk."""

    kind: str
    name: str
    size: int


class Sweep:
    """What becomes of garbage: it goes, and ``found`` tells what went.

    *dry*: it stays. *measured*: its size is told, for which it is walked. *failed*: where an
    OSError goes, with what it was about; without it the first one ends the sweep.
    """

    def __init__(
        self,
        *,
        dry: bool = False,
        measured: bool = False,
        failed: Callable[[str, OSError], None] | None = None,
    ) -> None:
        self.dry = dry
        self.found: list[Trash] = []
        self._measured = measured
        self._failed = failed

    def take(self, kind: str, name: str, path: str, remove: Callable[[], bool | None]) -> None:
        """Call *remove*, which returns False if *path* is not to go after all."""
        try:
            size = tree_size(os.fsencode(path)).on_disk if self._measured else 0
            if not self.dry and remove() is False:
                return
            self.found.append(Trash(kind, name, size))
        except FileNotFoundError:
            pass  # another sweep has taken it
        except OSError as error:
            if self._failed is None or isinstance(error, BlockingIOError):
                raise
            self._failed(f"{kind} {name}", error)


class Garbage:
    """Removes what dead writers left, and layers and fix-ups without an image."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._blobs = Blobs(parts)
        self._indexes = Indexes(parts)

    @contextmanager
    def lease(self, diff_ids: Iterable[Digest] = ()) -> Iterator[Lease]:
        """Keep *diff_ids* until the block ends; then what no image took up is collected.

        What earlier, killed processes left is collected on entry, after the lease is taken: an
        import that is run again finds the layers that it had finished.
        """
        with self._parts.scratch.directory() as scratch:
            lease = Lease(self._parts, scratch.name)
            lease.add(diff_ids)
            self.collect()
            try:
                yield lease
            finally:
                self._end(scratch.name)

    def collect(self) -> tuple[Digest, ...]:
        """Remove dead scratch directories and unreferenced layers; return the layers removed.

        Safe beside everything else that uses the store. What cannot be removed now (in use by a
        process that is just about to refer to it, or by a mount) is left for the next time.
        """
        found = self._sweep(Sweep())
        return tuple(Digest.parse(one.name) for one in found if one.kind == LAYER)

    def sweep(self, sweep: Sweep, *, blobs: bool = False) -> None:
        """Let *sweep* have all that ``collect`` removes; safe as that is.

        With *blobs* also the kept blobs, but for those that a lease keeps (an import or export is
        at work with them) and those of layers without a recipe: their tar is nowhere else.
        """
        self._sweep(sweep)
        if blobs:
            for blob in self._blobs.list():
                self._drop_blob(blob, sweep)

    def _sweep(self, sweep: Sweep) -> Sequence[Trash]:
        self._parts.scratch.clean(sweep.take)
        if not sweep.dry:
            self._forget_dead_leases()
        for diff_id in self._unused_layers():
            self._drop_layer(diff_id, sweep)
        for diff_id in self._rowless("layers", "layers", "diff_id"):
            self._drop_layer(diff_id, sweep)
        for digest in self._rowless("blobs", "blobs", "digest"):
            self._blobs.drop_file(digest, sweep.take)
        for chain in self._rowless("fixups", "images", "chain_id"):
            self._drop_fixup(chain, sweep)
        for chain in self._rowless("indexes", "images", "chain_id"):
            self._indexes.drop_unused(chain, sweep.take)
        self._drop_rowless_containers(sweep)
        return sweep.found

    def _end(self, holder: str) -> None:
        try:
            with self._parts.database.write() as rows:
                rows.execute("DELETE FROM leases WHERE holder = ?", (holder,))
            self.collect()
        except (UnionfsError, OSError):
            pass  # the lease dies with its directory anyway, and the next one collects

    def _unused_layers(self) -> list[Digest]:
        with self._parts.database.read() as rows:
            return [Digest.parse(row["diff_id"]) for row in rows.execute(_UNUSED)]

    def _rowless(self, kind: str, table: str, column: str) -> list[Digest]:
        """Return what is published of *kind* and no row of *table* names."""
        published = self._parts.layout.published(kind)
        if not published:
            return []
        with self._parts.database.read() as rows:
            found = rows.execute(f"SELECT {column} FROM {table}")
            known = {row[column] for row in found}
        return [digest for digest in published if str(digest) not in known]

    def _drop_layer(self, diff_id: Digest, sweep: Sweep) -> None:
        """Remove the layer if it is still unused: its row first, then its directory."""
        path = self._parts.layout.layer(diff_id)
        try:
            with (
                self._parts.scratch.locked(diff_id.hex, wait=False),
                unused(os.path.join(path, TREE)) as free,
            ):
                if free and not self._is_used(diff_id):
                    sweep.take(LAYER, str(diff_id), path, partial(self._forget_layer, diff_id))
        except BlockingIOError:
            pass  # somebody is storing it

    def _forget_layer(self, diff_id: Digest) -> bool:
        """Remove a layer, whose lock is held, unless it came into use since somebody looked."""
        with self._parts.database.write() as rows:
            if _is_of_image(rows, diff_id) or self._is_leased(rows, diff_id):
                return False
            rows.execute("DELETE FROM layers WHERE diff_id = ?", (str(diff_id),))
        self._parts.scratch.discard(self._parts.layout.layer(diff_id))
        return True

    def _is_used(self, diff_id: Digest) -> bool:
        with self._parts.database.read() as rows:
            return _is_of_image(rows, diff_id) or self._is_leased(rows, diff_id)

    def _is_leased(self, rows: sqlite3.Connection, diff_id: Digest) -> bool:
        """Return whether a living lease has the layer."""
        found = rows.execute("SELECT holder FROM leases WHERE diff_id = ?", (str(diff_id),))
        return any(self._parts.scratch.is_living(row["holder"]) for row in found.fetchall())

    def _forget_dead_leases(self) -> None:
        with self._parts.database.read() as rows:
            found = rows.execute("SELECT DISTINCT holder FROM leases").fetchall()
        dead = [row["holder"] for row in found if not self._parts.scratch.is_living(row["holder"])]
        if dead:
            with self._parts.database.write() as rows:
                rows.executemany("DELETE FROM leases WHERE holder = ?", [(one,) for one in dead])

    def _drop_fixup(self, chain: Digest, sweep: Sweep) -> None:
        path = self._parts.layout.fixup(chain)
        try:
            with (
                self._parts.scratch.locked(chain.hex, wait=False),
                unused(os.path.join(path, TREE)) as free,
            ):
                if not free:
                    return
                with self._parts.database.read() as rows:
                    used = rows.execute("SELECT 1 FROM images WHERE chain_id = ?", (str(chain),))
                    if used.fetchone():
                        return
                sweep.take(FIXUP, str(chain), path, partial(self._parts.scratch.discard, path))
        except BlockingIOError:
            pass  # somebody is making it

    def _drop_rowless_containers(self, sweep: Sweep) -> None:
        with self._parts.database.read() as rows:
            known = {row["id"] for row in rows.execute("SELECT id FROM containers")}
        for name in set(os.listdir(self._parts.layout.containers)) - known:
            path = self._parts.layout.container(name)
            try:
                with self._parts.scratch.locked(name, wait=False):
                    with self._parts.database.read() as rows:
                        found = rows.execute("SELECT 1 FROM containers WHERE id = ?", (name,))
                        if found.fetchone():
                            continue
                    discard = partial(self._parts.scratch.discard, path)
                    sweep.take(CONTAINER, name, path, discard)
            except BlockingIOError:
                pass  # it is being created or removed

    def _drop_blob(self, blob: BlobRecord, sweep: Sweep) -> None:
        if not self._has_recipe(blob.diff_id):
            return
        with self._parts.database.read() as rows:
            if self._is_leased(rows, blob.diff_id):
                return
        path = self._parts.layout.blob(blob.digest)
        drop = partial(self._blobs.drop, blob, lambda rows: self._is_leased(rows, blob.diff_id))
        sweep.take(BLOB, str(blob.digest), path, drop)

    def _has_recipe(self, diff_id: Digest) -> bool:
        return os.path.exists(os.path.join(self._parts.layout.layer(diff_id), RECIPE))


def _is_of_image(rows: sqlite3.Connection, diff_id: Digest) -> bool:
    found = rows.execute("SELECT 1 FROM image_layers WHERE diff_id = ?", (str(diff_id),))
    return found.fetchone() is not None
