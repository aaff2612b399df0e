"""Layers as they were shipped, kept so that an export gives the same blobs again.

A blob is a file under its digest's name, and a row that says whose it is. The file is there before
its row and goes after it; what a crash leaves between the two, nothing refers to and garbage takes.
Whoever makes or removes one holds its lock; that of a layer, if it is needed too, comes first.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from unionfs.digest import Digest
from unionfs.store.parts import Parts
from unionfs.store.records import BlobRecord
from unionfs.store.scratch import Take
from unionfs.syscalls.publish import fsync_dir

BLOB = "blob"


@dataclass(frozen=True, slots=True)
class Shipped:
    """A blob that somebody made and verified: its digest, media type and bytes."""

    digest: Digest
    media_type: str
    size: int

    def of(self, diff_id: Digest) -> BlobRecord:
        """Return the record of this blob as that of the layer *diff_id*."""
        return BlobRecord(self.digest, diff_id, self.media_type, self.size)


class Blobs:
    """The kept blobs of one store."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def path(self, digest: Digest) -> str:
        """Return the file of a blob, kept or not."""
        return self._parts.layout.blob(digest)

    def of_layer(self, diff_id: Digest) -> Sequence[BlobRecord]:
        """Return the kept blobs of a layer, by digest; several where it came compressed in
        several ways."""
        with self._parts.database.read() as rows:
            found = rows.execute(
                "SELECT * FROM blobs WHERE diff_id = ? ORDER BY digest", (str(diff_id),)
            )
            return [_record(row) for row in found]

    def list(self) -> Sequence[BlobRecord]:
        """Return all kept blobs, by digest."""
        with self._parts.database.read() as rows:
            return [_record(row) for row in rows.execute("SELECT * FROM blobs ORDER BY digest")]

    def keep(self, made: str, blob: BlobRecord) -> None:
        """Give the file *made*, which is synced and verified, its name as *blob*.

        The layer is stored. Raises OSError, DatabaseUnavailableError.
        """
        final = self.path(blob.digest)
        with self._parts.scratch.locked(_lock_name(blob.digest)):
            os.makedirs(os.path.dirname(final), mode=0o700, exist_ok=True)
            os.rename(made, final)  # over one with the same bytes, if at all
            fsync_dir(os.path.dirname(final))
            with self._parts.database.write() as rows:
                rows.execute(
                    "INSERT INTO blobs (digest, diff_id, media_type, size) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT DO NOTHING",
                    (str(blob.digest), str(blob.diff_id), blob.media_type, blob.size),
                )

    def drop(
        self, blob: BlobRecord, unless: Callable[[sqlite3.Connection], bool] | None = None
    ) -> bool:
        """Keep *blob* no longer, *unless* that is true of the database. Return whether it went.

        Raises OSError.
        """
        with self._parts.scratch.locked(_lock_name(blob.digest)):
            with self._parts.database.write() as rows:
                if unless is not None and unless(rows):
                    return False
                rows.execute("DELETE FROM blobs WHERE digest = ?", (str(blob.digest),))
            self._remove(blob.digest)
        return True

    def drop_file(self, digest: Digest, take: Take) -> None:
        """Have *take* remove the file of *digest* if no row names it and nobody is keeping it."""
        try:
            with self._parts.scratch.locked(_lock_name(digest), wait=False):
                with self._parts.database.read() as rows:
                    found = rows.execute("SELECT 1 FROM blobs WHERE digest = ?", (str(digest),))
                    if found.fetchone() is not None:
                        return
                take(BLOB, str(digest), self.path(digest), partial(self._remove, digest))
        except BlockingIOError:
            pass

    def _remove(self, digest: Digest) -> None:
        try:
            os.unlink(self.path(digest))
        except FileNotFoundError:
            pass


def _lock_name(digest: Digest) -> str:
    """Return the name of the lock, which is not that of a layer with the same digest."""
    return f"blob-{digest.hex}"


def _record(row: sqlite3.Row) -> BlobRecord:
    return BlobRecord(
        digest=Digest.parse(row["digest"]),
        diff_id=Digest.parse(row["diff_id"]),
        media_type=row["media_type"],
        size=row["size"],
    )
