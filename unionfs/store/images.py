"""Images: configs, names, and the ordered layers they refer to."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence

from unionfs.digest import BadDigestError, Digest
from unionfs.errors import ConflictError, NotFoundError
from unionfs.store.fixups import Fixups, visible_layers
from unionfs.store.garbage import Garbage
from unionfs.store.layers import Layers, MissingLayerError
from unionfs.store.layout import now
from unionfs.store.names import BadNameError, image_name, name_meant
from unionfs.store.next import taken_by
from unionfs.store.parts import AmbiguousError, Parts, id_pattern, only_one
from unionfs.store.records import ImageRecord, NewImage, chain_id

Paths = list[str]
"""Directories, in an order."""


class ImageInUseError(ConflictError):
    """An image cannot go while containers use it."""


class Images:
    """The images of one store."""

    def __init__(self, parts: Parts, layers: Layers, garbage: Garbage) -> None:
        self._parts = parts
        self._layers = layers
        self._garbage = garbage
        self._fixups = Fixups(parts, layers)

    def add(self, image: NewImage, names: Iterable[str] = ()) -> ImageRecord:
        """Add *image*, whose layers are stored and leased, under *names* (``NAME[:TAG]``).

        A name that another image had moves to this one; an image that is there already gets the
        names and the manifest. Raises BadNameError, and MissingLayerError if a layer is not stored.
        """
        full_names = [image_name(name) for name in names]
        chain = chain_id(image.diff_ids)
        if chain is None:
            self._write(image, None, False, full_names)
            return self.get(image.id)
        with (
            self._parts.failures_named(f"adding image {image.id}"),
            self._parts.scratch.locked(chain.hex),
        ):
            has_fixup = self._fixups.make(chain, image.diff_ids)
            self._write(image, chain, has_fixup, full_names)
        return self.get(image.id)

    def get(self, image_id: Digest) -> ImageRecord:
        """Return the image with this ID. Raises NotFoundError."""
        with self._parts.database.read() as rows:
            return _record(rows, str(image_id))

    def resolve(self, text: str) -> ImageRecord:
        """Return the image that *text* names: a name, ``NAME:TAG``, an ID or its beginning.

        Or the whole digest of its manifest, after ``NAME@`` or alone. A full name comes before one
        without its registry (``debian`` for ``localhost/debian:latest``), and that before the
        beginning of an ID. Raises NotFoundError, AmbiguousError.
        """
        with self._parts.database.read() as rows:
            digested = _by_digest(rows, text)
            if digested is not None:
                return digested
            named = rows.execute("SELECT image_id FROM names WHERE name = ?", (_full(text),))
            row = named.fetchone()
            if row is not None:
                return _record(rows, row["image_id"])
            short = rows.execute(
                "SELECT DISTINCT image_id FROM names WHERE name GLOB ?", (f"*/{_full(text)}",)
            ).fetchall()
            if short:
                return _record(rows, _only_one_named(text, [row["image_id"] for row in short]))
            found = rows.execute("SELECT id FROM images WHERE id GLOB ?", (id_pattern(text) or "",))
            return _record(rows, only_one("image", text, [row["id"] for row in found]))

    def list(self) -> Sequence[ImageRecord]:
        """Return all images, the newest import first."""
        with self._parts.database.read() as rows:
            found = rows.execute("SELECT id FROM images ORDER BY imported DESC, rowid DESC")
            return [_record(rows, row["id"]) for row in found.fetchall()]

    def tag(self, image_id: Digest, name: str) -> str | None:
        """Give the image one more *name* (``NAME[:TAG]``), which another image may have had.

        Return the ID of that other image, None if there was none. Raises BadNameError, and
        NotFoundError if the image is gone.
        """
        full_name = image_name(name)
        with self._parts.database.write() as rows:
            _record(rows, str(image_id))
            row = rows.execute(
                "SELECT image_id FROM names WHERE name = ? AND image_id != ?",
                (full_name, str(image_id)),
            ).fetchone()
            _name(rows, image_id, [full_name])
        return None if row is None else str(row["image_id"])

    def untag(self, words: Iterable[str]) -> Sequence[str]:
        """Take away the names that *words* stand for, all or none; return them in full, sorted.

        Their images stay, those too that have no name left. Raises NotFoundError for what is not
        a name of any image, AmbiguousError.
        """
        gone = set()
        for word in words:
            name = name_meant(word, self.resolve(word).names)
            if name is None:
                raise NotFoundError(f"no image has the name {word!r}: an ID cannot be taken away")
            gone.add(name)
        with self._parts.database.write() as rows:
            rows.executemany("DELETE FROM names WHERE name = ?", [(name,) for name in gone])
        return sorted(gone)

    def require_unused(self, ids: Iterable[Digest]) -> None:
        """Raise ImageInUseError naming the containers if one of the images *ids* has any.

        Also NotFoundError. ``remove`` looks again.
        """
        with self._parts.database.read() as rows:
            for image_id in ids:
                _refuse_if_used(rows, _record(rows, str(image_id)))

    def remove(self, ids: Iterable[Digest], names: Iterable[str] = ()) -> Sequence[Digest]:
        """Remove images with all their names, and the layers that no other image needs.

        From images that stay, take the full *names* away. All of *ids* and *names* or none. Return
        the diffIDs of the layers that went. Raises NotFoundError, and ImageInUseError naming the
        containers.
        """
        with self._parts.database.write() as rows:
            for image_id in ids:
                record = _record(rows, str(image_id))
                _refuse_if_used(rows, record)
                self._refuse_if_taken(rows, record)
                rows.execute("DELETE FROM images WHERE id = ?", (str(image_id),))
            rows.executemany("DELETE FROM names WHERE name = ?", [(name,) for name in names])
        with self._parts.failures_named("removing layers"):
            return self._garbage.collect()

    def _refuse_if_taken(self, rows: sqlite3.Connection, image: ImageRecord) -> None:
        """Raise ImageInUseError if a mounted container went on on *image*, and no row says so yet.

        Whoever saw to that was killed just then; looking the container up puts it right.
        """
        ids = taken_by(self._parts.layout, image.id)
        users = [_container_name(rows, container_id) for container_id in ids]
        if users:
            raise _in_use(image, users)

    def stack(self, image_id: Digest) -> Paths:
        """Return the directories to mount, topmost first; their first is what the root looks like.

        A layer that occurs twice is there once, at its topmost place: it hides all that the lower
        one could show. The stack ends at a layer that hides everything below it. An image
        without layers has one empty directory. Raises NotFoundError, and MissingLayerError naming
        what is gone or unreadable.
        """
        image = self.get(image_id)
        paths = [layer.path for layer in visible_layers(self._layers, image.diff_ids)]
        if image.chain_id is not None and self._has_fixup(image_id):
            paths.insert(0, self._fixups.readable_path(image.chain_id))
        return paths or [self._parts.layout.empty]

    def fixup_path(self, chain: Digest) -> str:
        """Return the home of what belongs on top of the layers of *chain*, there or not."""
        return self._parts.layout.fixup(chain)

    def lacks_fixup(self, image: ImageRecord) -> bool:
        """Return whether the directory that belongs on top of the layers of *image* is gone."""
        if image.chain_id is None or not self._has_fixup(image.id):
            return False
        return not os.path.isdir(self._fixups.path(image.chain_id))

    def make_fixup(self, image: ImageRecord) -> None:
        """Make that directory again. Raises MissingLayerError, StoreFullError, StoreFailedError."""
        assert image.chain_id is not None
        with (
            self._parts.failures_named(f"repairing image {image.id}"),
            self._parts.scratch.locked(image.chain_id.hex),
        ):
            self._parts.scratch.discard(self._parts.layout.fixup(image.chain_id))
            self._fixups.make(image.chain_id, image.diff_ids)

    def _has_fixup(self, image_id: Digest) -> bool:
        with self._parts.database.read() as rows:
            found = rows.execute("SELECT has_fixup FROM images WHERE id = ?", (str(image_id),))
            row = found.fetchone()
            return row is not None and bool(row["has_fixup"])

    def _write(
        self, image: NewImage, chain: Digest | None, has_fixup: bool, names: Sequence[str]
    ) -> None:
        with self._parts.database.write() as rows:
            _require_layers(rows, image)
            _insert(rows, image, chain, has_fixup)
            _name(rows, image.id, names)


def _name(rows: sqlite3.Connection, image_id: Digest, names: Iterable[str]) -> None:
    """Give an image *names*, in full, which other images lose."""
    rows.executemany(
        "INSERT INTO names VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET image_id = excluded.image_id",
        [(name, str(image_id)) for name in names],
    )


def _by_digest(rows: sqlite3.Connection, text: str) -> ImageRecord | None:
    """Return the image whose manifest has the digest that *text* is or has after ``NAME@``.

    With a name also the one with that ID, as engines write both. None where *text* has no digest.
    Raises NotFoundError if no image of that name has it.
    """
    repository, at, digest = text.rpartition("@")
    try:
        Digest.parse(digest)
    except BadDigestError:
        return None
    found = rows.execute(
        "SELECT id FROM images WHERE manifest_digest = ? OR (? AND id = ?)",
        (digest, bool(at), digest),
    ).fetchall()
    for row in found:
        record = _record(rows, row["id"])
        if not at or any(_is_of(name, repository) for name in record.names):
            return record
    if at:
        raise NotFoundError(f"no such image: {text}")
    return None


def _is_of(name: str, repository: str) -> bool:
    """Return whether *name*, in full, is one of *repository*, whose registry may be left out."""
    own = name.rpartition(":")[0]
    return own == repository or own.endswith(f"/{repository}")


def _full(text: str) -> str:
    try:
        return image_name(text)
    except BadNameError:
        return " "  # no image has this name; the text may still begin an ID


def _only_one_named(text: str, ids: Sequence[str]) -> str:
    if len(ids) > 1:
        raise AmbiguousError(
            f"{text!r} is the end of the names of several images: {', '.join(ids)}"
        )
    return ids[0]


def _require_layers(rows: sqlite3.Connection, image: NewImage) -> None:
    for diff_id in image.diff_ids:
        found = rows.execute("SELECT 1 FROM layers WHERE diff_id = ?", (str(diff_id),))
        if found.fetchone() is None:
            raise MissingLayerError(f"image {image.id}: its layer {diff_id} is not stored")


def _insert(
    rows: sqlite3.Connection, image: NewImage, chain: Digest | None, has_fixup: bool
) -> None:
    manifest_digest = None if image.manifest is None else str(Digest.of(image.manifest))
    rows.execute(
        "INSERT INTO images (id, config, manifest, manifest_digest, chain_id, has_fixup,"
        " architecture, os, variant, created, imported) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET has_fixup = excluded.has_fixup,"
        " manifest = coalesce(excluded.manifest, manifest),"
        " manifest_digest = coalesce(excluded.manifest_digest, manifest_digest)",
        (
            str(image.id),
            image.config,
            image.manifest,
            manifest_digest,
            None if chain is None else str(chain),
            has_fixup,
            image.architecture,
            image.os,
            image.variant,
            image.created,
            now(),
        ),
    )
    rows.executemany(
        "INSERT INTO image_layers VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(str(image.id), place, str(diff_id)) for place, diff_id in enumerate(image.diff_ids)],
    )


def _refuse_if_used(rows: sqlite3.Connection, image: ImageRecord) -> None:
    found = rows.execute(
        "SELECT name FROM containers WHERE image_id = ? ORDER BY name", (str(image.id),)
    )
    users = [row["name"] for row in found]
    if users:
        raise _in_use(image, users)


def _in_use(image: ImageRecord, users: Sequence[str]) -> ImageInUseError:
    shown = image.names[0] if image.names else str(image.id)
    noun = "container" if len(users) == 1 else "containers"
    return ImageInUseError(f"image {shown} is used by {noun} {', '.join(users)}")


def _container_name(rows: sqlite3.Connection, container_id: str) -> str:
    found = rows.execute("SELECT name FROM containers WHERE id = ?", (container_id,)).fetchone()
    return container_id if found is None else str(found["name"])


def _record(rows: sqlite3.Connection, image_id: str) -> ImageRecord:
    row = rows.execute("SELECT * FROM images WHERE id = ?", (image_id,)).fetchone()
    if row is None:
        raise NotFoundError(f"no such image: {image_id}")
    names = rows.execute("SELECT name FROM names WHERE image_id = ? ORDER BY name", (image_id,))
    layers = rows.execute(
        "SELECT diff_id FROM image_layers WHERE image_id = ? ORDER BY position", (image_id,)
    )
    size = rows.execute(
        "SELECT coalesce(sum(content_size), 0) AS size FROM layers WHERE diff_id IN"
        " (SELECT diff_id FROM image_layers WHERE image_id = ?)",
        (image_id,),
    )
    return ImageRecord(
        id=Digest.parse(row["id"]),
        names=tuple(found["name"] for found in names),
        created=row["created"],
        architecture=row["architecture"],
        os=row["os"],
        variant=row["variant"],
        manifest_digest=_optional(row["manifest_digest"]),
        diff_ids=tuple(Digest.parse(found["diff_id"]) for found in layers),
        size=size.fetchone()["size"],
        imported=row["imported"],
        chain_id=_optional(row["chain_id"]),
        config_blob=row["config"],
        manifest_blob=row["manifest"],
    )


def _optional(text: str | None) -> Digest | None:
    return None if text is None else Digest.parse(text)
