"""Containers: an image's stack with an upper directory of its own."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Sequence
from typing import Protocol

from unionfs.digest import Digest
from unionfs.errors import ConflictError, NotFoundError, UnionfsError
from unionfs.store.attributes import copy_directory_attributes
from unionfs.store.images import Images
from unionfs.store.layers import publish_directory
from unionfs.store.layout import now
from unionfs.store.names import container_name, random_container_name
from unionfs.store.next import SWAPPED, Next, note_of
from unionfs.store.parts import Parts, only_one
from unionfs.store.records import ContainerRecord, ImageRecord
from unionfs.syscalls.publish import fsync_dir, write_file

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 20
_HEX = "0123456789abcdef"


class NameTakenError(ConflictError):
    """Another container has that name."""


class Mounted(Protocol):
    """A mount of a container, which answers nothing until it is told to."""

    def prepare(self, upper: str, work: str) -> None:
        """Get ready to go on with these directories. Raises UnionfsError."""

    def go_on(self, offered: str, taken: str) -> None:
        """Rename the file *offered* to *taken* and be on those directories, or neither.

        Raises UnionfsError where that did not happen, or is not known to have.
        """

    def thaw(self) -> None:
        """Answer again."""


class Containers:
    """The containers of one store."""

    def __init__(self, parts: Parts, images: Images) -> None:
        self._parts = parts
        self._images = images

    def create(self, image: ImageRecord, name: str | None = None) -> ContainerRecord:
        """Make a container of *image*: an empty upper whose root looks as the image's does.

        Without *name* it gets one (``adjective_noun``). Raises BadNameError, NameTakenError,
        MissingLayerError, NotFoundError if the image is gone, StoreFullError, StoreFailedError.
        """
        wanted = None if name is None else container_name(name)
        container_id = secrets.token_hex(32)
        top = self._images.stack(image.id)[0]
        with (
            self._parts.failures_named("creating a container"),
            self._parts.scratch.locked(container_id),
        ):
            self._make_directory(container_id, top)
            try:
                return self._insert(container_id, image.id, wanted)
            except BaseException:
                if self._is_unlisted(container_id):
                    self._parts.scratch.discard(self.path(container_id))
                raise

    def _is_unlisted(self, container_id: str) -> bool:
        """Take back what a COMMIT that failed in its last step may have left; see that it did.

        SQLite may have told of a failure when what it had written was there for the next reader.
        """
        try:
            with self._parts.database.write() as rows:
                rows.execute("DELETE FROM containers WHERE id = ?", (container_id,))
        except (UnionfsError, OSError):
            return False  # its directory stays: a listed container needs it, and gc takes another's
        return True

    def resolve(self, text: str) -> ContainerRecord:
        """Return the container with this ID or name, or the one whose ID begins with *text*.

        Raises NotFoundError, AmbiguousError.
        """
        return self._settled(self._find(text))

    def _find(self, text: str) -> ContainerRecord:
        if not text.isascii():  # no name is like that, nor can all such text be asked for
            only_one("container", text, [])
        with self._parts.database.read() as rows:
            exact = rows.execute(
                "SELECT * FROM containers WHERE id = ? OR name = ? ORDER BY id = ? DESC",
                (text, text, text),
            ).fetchone()
            if exact is not None:
                return _record(exact)
            pattern = text + "*" if text and not text.strip(_HEX) else ""
            found = rows.execute("SELECT id FROM containers WHERE id GLOB ?", (pattern,))
            container_id = only_one("container", text, [row["id"] for row in found])
            row = rows.execute("SELECT * FROM containers WHERE id = ?", (container_id,)).fetchone()
            return _record(row)

    def list(self) -> Sequence[ContainerRecord]:
        """Return all containers, the newest first."""
        with self._parts.database.read() as rows:
            found = rows.execute("SELECT * FROM containers ORDER BY created DESC, rowid DESC")
            return [_record(row) for row in found]

    def remove(self, container_id: str) -> None:
        """Forget the container, then discard its directory and with it its upper.

        The caller has seen to it that nothing is mounted on it. Raises NotFoundError, and
        StoreFailedError for what cannot be removed (a mount point below it).
        """
        with (
            self._parts.failures_named(f"removing container {container_id[:12]}"),
            self._parts.scratch.locked(container_id),
        ):
            with self._parts.database.write() as rows:
                done = rows.execute("DELETE FROM containers WHERE id = ?", (container_id,))
                if done.rowcount == 0:
                    raise NotFoundError(f"no such container: {container_id}")
            self._parts.scratch.discard(self.path(container_id))

    def forget(self, container_id: str) -> None:
        """Remove the row of a container whose directory is gone."""
        with self._parts.database.write() as rows:
            rows.execute("DELETE FROM containers WHERE id = ?", (container_id,))

    def rebase(
        self, container: ContainerRecord, image: ImageRecord, mount: Mounted | None = None
    ) -> None:
        """Let *container* be one of *image*, with an empty upper; what was in it is discarded.

        The caller has seen to it that nothing but *mount* is mounted on it, nor can be. What a
        crash leaves is one of the two: the next ``resolve`` finishes what is decided already
        (``store.next``), and takes the rest away. Raises MissingLayerError, NotFoundError,
        StoreFullError, StoreFailedError, and what *mount* raises.
        """
        top = self._images.stack(image.id)[0]
        beside = self._next(container.id)
        with (
            self._parts.failures_named(f"rebasing container {container.short}"),
            self._parts.scratch.locked(container.id),
        ):
            try:
                self._prepare_next(beside, note_of(image.id, offered=mount is not None), top)
                if mount is not None:
                    mount.prepare(*map(beside.prepared, SWAPPED))
                self._decide(container.id, image.id, beside, mount)
            except BaseException:
                self._settle(container.id, beside)
                raise
            if mount is not None:
                mount.thaw()
            self._go_on_with_next(container.id, beside)

    def _decide(
        self, container_id: str, image_id: Digest, beside: Next, mount: Mounted | None
    ) -> None:
        """Make it so. The image cannot go meanwhile, with a mount that has it already."""
        with self._parts.database.write() as rows:
            _be_of(rows, container_id, image_id)
            if mount is not None:
                try:
                    mount.go_on(beside.offered, beside.taken)
                except UnionfsError:
                    if beside.decided("") is None:
                        raise

    def _prepare_next(self, beside: Next, note: tuple[str, bytes], top: str) -> None:
        """Make what the container is to have, beside what it has, with *note* in it."""
        self._parts.scratch.discard(beside.path)
        with self._parts.scratch.directory() as scratch:
            made = os.path.join(scratch.path, "next")
            for name in ("", *SWAPPED):
                os.mkdir(os.path.join(made, name), 0o700)
            self._dress(os.path.join(made, "upper"), top)
            name, text = note
            write_file(os.path.join(made, name), text)
            publish_directory(made, beside.path)

    def _go_on_with_next(self, container_id: str, beside: Next) -> None:
        """Put what was prepared in its place, each directory whole; begun before or not."""
        home = self.path(container_id)
        for name in SWAPPED:
            prepared = beside.prepared(name)
            if os.path.isdir(prepared):
                self._parts.scratch.discard(os.path.join(home, name))
                os.rename(prepared, os.path.join(home, name))
                fsync_dir(home)
        self._parts.scratch.discard(beside.path)

    def _settled(self, record: ContainerRecord) -> ContainerRecord:
        """Return *record* after finishing or undoing a ``rebase`` of it that was killed."""
        beside = self._next(record.id)
        if not beside.is_there():
            return record
        with (
            self._parts.failures_named(f"rebasing container {record.short}"),
            self._parts.scratch.locked(record.id),
        ):
            return self._settle(record.id, beside)

    def _settle(self, container_id: str, beside: Next) -> ContainerRecord:
        """Finish or undo what is *beside* the container, whose lock is held; return its record."""
        record = self._record_of(container_id)
        image_id = beside.decided(str(record.image_id))
        if image_id is None:
            self._parts.scratch.discard(beside.path)
            return record
        if image_id != record.image_id:
            with self._parts.database.write() as rows:
                _be_of(rows, container_id, image_id)
        self._go_on_with_next(container_id, beside)
        return self._record_of(container_id)

    def _record_of(self, container_id: str) -> ContainerRecord:
        with self._parts.database.read() as rows:
            row = rows.execute("SELECT * FROM containers WHERE id = ?", (container_id,)).fetchone()
        if row is None:
            raise NotFoundError(f"no such container: {container_id}")
        return _record(row)

    def _next(self, container_id: str) -> Next:
        return Next(self.path(container_id))

    def path(self, container_id: str) -> str:
        """Return the container's directory: ``upper``, ``work``, ``merged`` and ``log`` in it."""
        return self._parts.layout.container(container_id)

    def _make_directory(self, container_id: str, top: str) -> None:
        with self._parts.scratch.directory() as scratch:
            made = os.path.join(scratch.path, "container")
            os.mkdir(made, 0o700)
            for name in ("upper", "work", "merged"):
                os.mkdir(os.path.join(made, name), 0o700)
            self._dress(os.path.join(made, "upper"), top)
            publish_directory(made, self.path(container_id))

    def _dress(self, upper: str, top: str) -> None:
        source = os.open(top, _DIR)
        target = os.open(upper, _DIR)
        try:
            copy_directory_attributes(source, target, self._parts.flavour)
        finally:
            os.close(source)
            os.close(target)

    def _insert(self, container_id: str, image_id: Digest, wanted: str | None) -> ContainerRecord:
        for _ in range(_TRIES):
            name = wanted or random_container_name()
            record = ContainerRecord(container_id, name, image_id, now())
            if self._try_insert(record):
                return record
            if wanted is not None:
                raise NameTakenError(f"the name {wanted!r} is taken by another container")
        record = ContainerRecord(container_id, f"container_{container_id[:12]}", image_id, now())
        self._try_insert(record)
        return record

    def _try_insert(self, record: ContainerRecord) -> bool:
        with self._parts.database.write() as rows:
            if rows.execute("SELECT 1 FROM containers WHERE name = ?", (record.name,)).fetchone():
                return False
            image = str(record.image_id)
            _require_image(rows, image)
            rows.execute(
                "INSERT INTO containers (id, name, image_id, created) VALUES (?, ?, ?, ?)",
                (record.id, record.name, image, record.created),
            )
        return True


def _be_of(rows: sqlite3.Connection, container_id: str, image_id: Digest) -> None:
    """Let the container be one of the image. Raises NotFoundError if that is gone."""
    image = str(image_id)
    _require_image(rows, image)
    rows.execute("UPDATE containers SET image_id = ? WHERE id = ?", (image, container_id))


def _require_image(rows: sqlite3.Connection, image: str) -> None:
    if not rows.execute("SELECT 1 FROM images WHERE id = ?", (image,)).fetchone():
        raise NotFoundError(f"no such image: {image}")


def _record(row: sqlite3.Row) -> ContainerRecord:
    return ContainerRecord(row["id"], row["name"], Digest.parse(row["image_id"]), row["created"])
