"""What nothing refers to any more, and how it goes.

A layer stays while an image or a *living lease* refers to it. A lease is a row that names a scratch
directory: it lives exactly as long as the process that flocks that directory, so a killed import
keeps nothing alive, and nobody has to clean up after it by hand.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from unionfs.digest import Digest
from unionfs.errors import UnionfsError
from unionfs.store.blobs import Blobs
from unionfs.store.inuse import unused
from unionfs.store.layout import TREE
from unionfs.store.parts import Parts

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


class Garbage:
    """Removes what dead writers left, and layers and fix-ups without an image."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._blobs = Blobs(parts)

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
        self._parts.scratch.clean()
        layers = [diff_id for diff_id in self._unused_layers() if self._drop_layer(diff_id)]
        for diff_id in self._rowless("layers", "layers", "diff_id"):
            self._drop_layer(diff_id)
        for digest in self._rowless("blobs", "blobs", "digest"):
            self._blobs.drop_file(digest)
        for chain in self._rowless("fixups", "images", "chain_id"):
            self._drop_fixup(chain)
        self._drop_rowless_containers()
        return tuple(layers)

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

    def _drop_layer(self, diff_id: Digest) -> bool:
        """Remove the layer if it is still unused: its row first, then its directory."""
        try:
            with (
                self._parts.scratch.locked(diff_id.hex, wait=False),
                unused(os.path.join(self._parts.layout.layer(diff_id), TREE)) as free,
            ):
                if not free:
                    return False
                with self._parts.database.write() as rows:
                    if self._is_used(rows, diff_id):
                        return False
                    rows.execute("DELETE FROM layers WHERE diff_id = ?", (str(diff_id),))
                self._parts.scratch.discard(self._parts.layout.layer(diff_id))
        except BlockingIOError:
            return False  # somebody is storing it
        return True

    def _is_used(self, rows: sqlite3.Connection, diff_id: Digest) -> bool:
        text = (str(diff_id),)
        if rows.execute("SELECT 1 FROM image_layers WHERE diff_id = ?", text).fetchone():
            return True
        for lease in rows.execute("SELECT holder FROM leases WHERE diff_id = ?", text).fetchall():
            if self._parts.scratch.is_living(lease["holder"]):
                return True
            rows.execute("DELETE FROM leases WHERE holder = ?", (lease["holder"],))
        return False

    def _drop_fixup(self, chain: Digest) -> None:
        try:
            with (
                self._parts.scratch.locked(chain.hex, wait=False),
                unused(os.path.join(self._parts.layout.fixup(chain), TREE)) as free,
            ):
                if not free:
                    return
                with self._parts.database.read() as rows:
                    used = rows.execute("SELECT 1 FROM images WHERE chain_id = ?", (str(chain),))
                    if used.fetchone():
                        return
                self._parts.scratch.discard(self._parts.layout.fixup(chain))
        except BlockingIOError:
            pass  # somebody is making it

    def _drop_rowless_containers(self) -> None:
        with self._parts.database.read() as rows:
            known = {row["id"] for row in rows.execute("SELECT id FROM containers")}
        for name in set(os.listdir(self._parts.layout.containers)) - known:
            try:
                with self._parts.scratch.locked(name, wait=False):
                    with self._parts.database.read() as rows:
                        found = rows.execute("SELECT 1 FROM containers WHERE id = ?", (name,))
                        if found.fetchone():
                            continue
                    self._parts.scratch.discard(self._parts.layout.container(name))
            except BlockingIOError:
                pass  # it is being created or removed
