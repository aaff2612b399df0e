"""Layers: content-addressed directories, each stored once.

A layer is made in a scratch directory together with its ``layer.json`` and published by one
rename, so what stands under its final name is complete and says its own sizes: where a crash kept
the row from being written, the next ingest reads them there.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unionfs.digest import Digest
from unionfs.errors import ConflictError, CorruptError
from unionfs.store.blobs import Blobs, Shipped
from unionfs.store.inuse import unused
from unionfs.store.layout import RECIPE, TREE, now
from unionfs.store.parts import Parts, id_pattern, only_one
from unionfs.store.records import LayerRecord
from unionfs.store.scratch import ScratchDirectory
from unionfs.syscalls.at import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2
from unionfs.syscalls.publish import fsync_dir
from unionfs.syscalls.synctree import sync_tree

if TYPE_CHECKING:
    from typing import BinaryIO

    from unionfs.tarball.apply import Applied

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SIDECAR = "layer.json"
_BLOB = "blob"


class WrongLayerError(CorruptError):
    """A layer's content is not what its diffID names."""


class MissingLayerError(CorruptError):
    """A layer's directory is not there or cannot be read."""


class LayerMountedError(ConflictError):
    """A layer is to be replaced, and a mount has it."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What ``layer.json`` records; sizes in bytes.

    ``implicit_dirs``: directories that no entry of the layer described (see ``fixups``), relative
    to its root, which is ``b""``. ``root_opaque``: the layer hides all that is below it, which a
    mark on a layer's root cannot say to overlayfs: the stack ends with it.
    """

    diff_id: Digest
    tar_size: int
    content_size: int
    entries: int
    implicit_dirs: tuple[bytes, ...]
    root_opaque: bool

    @classmethod
    def of(cls, applied: Applied) -> Sidecar:
        """Return the record of a layer that was just applied."""
        return cls(
            diff_id=applied.diff_id,
            tar_size=applied.tar_size,
            content_size=applied.content_size,
            entries=applied.entries,
            implicit_dirs=tuple(b"" if path == b"." else path for path in applied.implicit_dirs),
            root_opaque=applied.root_opaque,
        )

    def to_json(self) -> bytes:
        """Return the file's content; names that are not UTF-8 survive as lone surrogates."""
        document = {
            "diffID": str(self.diff_id),
            "tarSize": self.tar_size,
            "contentSize": self.content_size,
            "entries": self.entries,
            "implicitDirs": [os.fsdecode(path) for path in self.implicit_dirs],
            "rootOpaque": self.root_opaque,
        }
        return json.dumps(document).encode("ascii")

    @classmethod
    def from_json(cls, data: bytes) -> Sidecar:
        """Return what *data* records. Raises ValueError or KeyError for something else."""
        document = json.loads(data)
        return cls(
            diff_id=Digest.parse(document["diffID"]),
            tar_size=int(document["tarSize"]),
            content_size=int(document["contentSize"]),
            entries=int(document["entries"]),
            implicit_dirs=tuple(os.fsencode(path) for path in document["implicitDirs"]),
            root_opaque=bool(document["rootOpaque"]),
        )


@dataclass(slots=True)
class Making:
    """A layer that is being made, by whoever was called with this.

    ``tree``: descriptor of the empty directory to write it to. ``recipe``: an empty file, for
    ``tarball.recipe``. ``blob_path``: where to put the layer as it was shipped, to have it kept;
    ``blob`` then says what that is (media type and bytes).
    """

    tree: int
    recipe: BinaryIO
    blob_path: str
    blob: Shipped | None = None


class Layers:
    """The layers of one store."""

    def __init__(self, parts: Parts, blobs: Blobs) -> None:
        self._parts = parts
        self._blobs = blobs

    def path(self, diff_id: Digest) -> str:
        """Return the directory of a layer, in the kernel's overlayfs format, stored or not."""
        return os.path.join(self._parts.layout.layer(diff_id), TREE)

    def readable_path(self, diff_id: Digest) -> str:
        """Return the directory of a stored layer after looking at it.

        Raises MissingLayerError, naming it, if it is gone or cannot be read.
        """
        path = self.path(diff_id)
        require_readable(path, f"layer {diff_id}")
        return path

    def sidecar(self, diff_id: Digest) -> Sidecar:
        """Return what was recorded when the layer was applied. Raises MissingLayerError."""
        path = os.path.join(self._parts.layout.layer(diff_id), _SIDECAR)
        try:
            with open(path, "rb") as file:
                return Sidecar.from_json(file.read())
        except OSError as error:
            raise MissingLayerError(
                f"layer {diff_id} cannot be read: {error.strerror}: {path}"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise MissingLayerError(f"layer {diff_id}: its record is damaged: {path}") from error

    def recipe_path(self, diff_id: Digest) -> str | None:
        """Return the file that says how the tar of a stored layer was written, None without one."""
        path = os.path.join(self._parts.layout.layer(diff_id), RECIPE)
        return path if os.path.exists(path) else None

    def has(self, diff_id: Digest) -> bool:
        """Return whether the layer is stored and its directory is there.

        The answer stays true only while an image or a lease (``Store.lease``) refers to it.
        """
        with self._parts.database.read() as rows:
            found = rows.execute("SELECT 1 FROM layers WHERE diff_id = ?", (str(diff_id),))
            known = found.fetchone() is not None
        return known and os.path.isdir(self.path(diff_id))

    def get(self, text: str | Digest) -> LayerRecord:
        """Return the layer with this diffID, or with the one diffID that begins with *text*.

        Raises NotFoundError, AmbiguousError.
        """
        pattern = id_pattern(str(text))
        with self._parts.database.read() as rows:
            found = rows.execute(
                "SELECT diff_id FROM layers WHERE diff_id GLOB ?", (pattern or "",)
            )
            diff_id = only_one("layer", str(text), [row["diff_id"] for row in found])
            row = rows.execute("SELECT * FROM layers WHERE diff_id = ?", (diff_id,)).fetchone()
            return _record(rows, row)

    def list(self) -> Sequence[LayerRecord]:
        """Return all stored layers, oldest first."""
        with self._parts.database.read() as rows:
            found = rows.execute("SELECT * FROM layers ORDER BY created, rowid").fetchall()
            return [_record(rows, row) for row in found]

    def ingest(self, diff_id: Digest, apply: Callable[[Making], Applied]) -> LayerRecord:
        """Store the layer *diff_id*, which *apply* writes to where it is told.

        If it is stored already, or another process stores it meanwhile, *apply* is not called.
        Hold a lease on it (``Store.lease``), or it may be collected before an image refers to it.
        Raises WrongLayerError if what was applied has another diffID, StoreFullError,
        StoreFailedError, and whatever *apply* raises; nothing half-made stays.
        """
        with (
            self._parts.failures_named(f"storing layer {diff_id}"),
            self._parts.scratch.locked(diff_id.hex),
        ):
            if not os.path.isdir(self._parts.layout.layer(diff_id)):
                with self._parts.scratch.directory() as scratch:
                    self._make(scratch, diff_id, apply)
            self._insert(self.sidecar(diff_id))
        return self.get(diff_id)

    def replace(self, diff_id: Digest, apply: Callable[[Making], Applied]) -> None:
        """Put what *apply* writes in the place of the directory of a stored layer, in one step.

        Hold a lease on it. Raises LayerMountedError, and as ``ingest``.
        """
        final = self._parts.layout.layer(diff_id)
        with (
            self._parts.failures_named(f"restoring layer {diff_id}"),
            self._parts.scratch.locked(diff_id.hex),
            self._parts.scratch.directory() as scratch,
            unused(os.path.join(final, TREE)) as free,
        ):
            if not free:
                raise LayerMountedError(f"layer {diff_id} is mounted: unmount it first")
            sidecar, _ = _apply(scratch, apply)
            if sidecar.diff_id != diff_id:
                raise WrongLayerError(f"layer {diff_id}: its content has diffID {sidecar.diff_id}")
            if not os.path.isdir(final):
                self._publish(scratch, sidecar)
                return
            made = os.path.join(scratch.path, "layer")
            _write_sidecar(made, sidecar)
            exchange_directories(made, final)

    def ingest_unknown(
        self, apply: Callable[[Making], Applied], found: Callable[[Digest], None]
    ) -> LayerRecord:
        """Store a layer whose diffID only *apply* will tell; *found* is told it before publishing.

        *found* is the place to take a lease. Raises as ``ingest``.
        """
        with (
            self._parts.failures_named("storing a layer"),
            self._parts.scratch.directory() as scratch,
        ):
            sidecar, blob = _apply(scratch, apply)
            found(sidecar.diff_id)
            with self._parts.scratch.locked(sidecar.diff_id.hex):
                if not os.path.isdir(self._parts.layout.layer(sidecar.diff_id)):
                    self._publish(scratch, sidecar)
                self._insert(self.sidecar(sidecar.diff_id))
                self._keep(scratch, sidecar, blob)
        return self.get(sidecar.diff_id)

    def _make(
        self, scratch: ScratchDirectory, diff_id: Digest, apply: Callable[[Making], Applied]
    ) -> None:
        sidecar, blob = _apply(scratch, apply)
        if sidecar.diff_id != diff_id:
            raise WrongLayerError(f"layer {diff_id}: its content has diffID {sidecar.diff_id}")
        self._publish(scratch, sidecar)
        self._insert(sidecar)
        self._keep(scratch, sidecar, blob)

    def _publish(self, scratch: ScratchDirectory, sidecar: Sidecar) -> None:
        made = os.path.join(scratch.path, "layer")
        _write_sidecar(made, sidecar)
        publish_directory(made, self._parts.layout.layer(sidecar.diff_id))

    def _keep(self, scratch: ScratchDirectory, sidecar: Sidecar, blob: Shipped | None) -> None:
        """Keep the blob of a layer that is stored now: a row of a blob refers to one of a layer."""
        if blob is not None:
            path = os.path.join(scratch.path, _BLOB)
            self._blobs.keep(path, blob.of(sidecar.diff_id))

    def _insert(self, sidecar: Sidecar) -> None:
        with self._parts.database.write() as rows:
            rows.execute(
                "INSERT INTO layers (diff_id, tar_size, content_size, entries, created)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    str(sidecar.diff_id),
                    sidecar.tar_size,
                    sidecar.content_size,
                    sidecar.entries,
                    now(),
                ),
            )


def publish_directory(made: str, final: str) -> None:
    """Give the finished directory *made* its name *final*, durably and never over another.

    Raises OSError; FileExistsError if *final* is there.
    """
    _rename_durably(made, final, RENAME_NOREPLACE)


def exchange_directories(made: str, final: str) -> None:
    """Let the finished directory *made* and the one that is *final* change places, durably.

    Raises OSError.
    """
    _rename_durably(made, final, RENAME_EXCHANGE)


def _rename_durably(made: str, final: str, flags: int) -> None:
    parent = os.path.dirname(final)
    sync_tree(made)
    renameat2(-100, os.fsencode(made), -100, os.fsencode(final), flags)
    fsync_dir(parent)


def _write_sidecar(made: str, sidecar: Sidecar) -> None:
    with open(os.path.join(made, _SIDECAR), "xb") as file:
        file.write(sidecar.to_json())


def require_readable(path: str, what: str) -> None:
    """Raise MissingLayerError, which names *what* it is, unless the directory *path* opens."""
    try:
        os.close(os.open(path, _DIR))
    except OSError as error:
        raise MissingLayerError(f"{what} cannot be read: {error.strerror}: {path}") from error


def _apply(
    scratch: ScratchDirectory, apply: Callable[[Making], Applied]
) -> tuple[Sidecar, Shipped | None]:
    """Run *apply* on a new directory of *scratch*; return the records of what it made."""
    made = os.path.join(scratch.path, "layer")
    tree = os.path.join(made, TREE)
    os.mkdir(made, 0o700)
    os.mkdir(tree, 0o700)
    fd = os.open(tree, _DIR)
    try:
        os.fchmod(fd, 0o755)  # what a layer that does not describe its root gets, umask or not
        with open(os.path.join(made, RECIPE), "xb") as recipe:
            making = Making(fd, recipe, os.path.join(scratch.path, _BLOB))
            applied = apply(making)
        if not applied.has_recipe:
            os.unlink(os.path.join(made, RECIPE))
        return Sidecar.of(applied), making.blob
    finally:
        os.close(fd)


def _record(rows: sqlite3.Connection, row: sqlite3.Row) -> LayerRecord:
    users = rows.execute(
        "SELECT DISTINCT image_id FROM image_layers WHERE diff_id = ? ORDER BY image_id",
        (row["diff_id"],),
    )
    return LayerRecord(
        diff_id=Digest.parse(row["diff_id"]),
        tar_size=row["tar_size"],
        content_size=row["content_size"],
        entries=row["entries"],
        created=row["created"],
        images=tuple(Digest.parse(user["image_id"]) for user in users),
    )
