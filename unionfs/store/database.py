"""The store's metadata: one SQLite file, its schema and its transactions.

A full disk must not keep anybody from removing what fills it, so reading and deleting need no new
blocks: the rollback journal is a file that stays (``journal_mode=PERSIST``) and whose blocks are
there beforehand. WAL can not promise that: SQLite removes its ``-wal`` and ``-shm`` files with the
last connection, and where there is no block for the mapped ``-shm`` even a reader dies of SIGBUS.
Transactions take milliseconds, so it costs little that readers and writers wait for each other.

``synchronous=FULL`` because a deleted row must not come back after its data is gone. Writers begin
with BEGIN IMMEDIATE: a transaction that reads and then writes can not fail half-way with
SQLITE_BUSY. One connection serves all threads of a Store, one transaction at a time (``_lock``).

A transaction is not ended by Interrupted in its middle: the traceback would keep its cursors, and
so SQLite its locks, even when the connection was closed (sqlite3_close_v2()), and the connection
that cleans up would wait for them in vain.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from unionfs.errors import CorruptError, RefusedError, UnavailableError
from unionfs.ondisk.flavour import Flavour
from unionfs.syscalls.interrupt import uninterrupted

SCHEMA_VERSION = 2
_APPLICATION_ID = 0x756E6673  # "unfs": file(1) and we tell it from other databases
_BUSY_SECONDS = 60.0
_RESERVED = 512 << 10  # bytes of journal; removing an image or a container takes a tenth of that

_SCHEMA = """
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE layers (
    diff_id      TEXT PRIMARY KEY,
    tar_size     INTEGER NOT NULL,
    content_size INTEGER NOT NULL,
    entries      INTEGER NOT NULL,
    created      TEXT NOT NULL
) STRICT;
CREATE TABLE images (
    id              TEXT PRIMARY KEY,
    config          BLOB NOT NULL,
    manifest        BLOB,
    manifest_digest TEXT,
    chain_id        TEXT,
    has_fixup       INTEGER NOT NULL,
    architecture    TEXT NOT NULL,
    os              TEXT NOT NULL,
    variant         TEXT,
    created         TEXT,
    imported        TEXT NOT NULL
) STRICT;
CREATE INDEX images_by_chain ON images (chain_id);
CREATE TABLE image_layers (
    image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    diff_id  TEXT NOT NULL REFERENCES layers (diff_id),
    PRIMARY KEY (image_id, position)
) STRICT;
CREATE INDEX image_layers_by_layer ON image_layers (diff_id);
CREATE TABLE names (
    name     TEXT PRIMARY KEY,
    image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE
) STRICT;
CREATE INDEX names_by_image ON names (image_id);
CREATE TABLE containers (
    id       TEXT PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE,
    image_id TEXT NOT NULL REFERENCES images (id),
    created  TEXT NOT NULL
) STRICT;
CREATE INDEX containers_by_image ON containers (image_id);
CREATE TABLE leases (
    holder  TEXT NOT NULL,
    diff_id TEXT NOT NULL,
    PRIMARY KEY (holder, diff_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX leases_by_layer ON leases (diff_id);
"""
# Since version 2. A row is a blob that is kept, under its digest's name.
_BLOBS = """
CREATE TABLE blobs (
    digest     TEXT PRIMARY KEY,
    diff_id    TEXT NOT NULL REFERENCES layers (diff_id) ON DELETE CASCADE,
    media_type TEXT NOT NULL,
    size       INTEGER NOT NULL
) STRICT;
CREATE INDEX blobs_by_layer ON blobs (diff_id);
"""
_NO_BLOBS = "CREATE TEMP TABLE blobs (digest TEXT, diff_id TEXT, media_type TEXT, size INTEGER)"


class NewerStoreError(RefusedError):
    """The store was written by a newer version of this program."""


class BadDatabaseError(CorruptError):
    """The file store.db is not a store's database, or is damaged."""


class DatabaseUnavailableError(UnavailableError):
    """The database cannot be used now: locked for too long, full, read-only."""


class Database:
    """One connection to a store's database."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.RLock()
        _make_private(path)
        with self._translated():
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row

    def is_new(self) -> bool:
        """Return whether the schema is still to be made.

        Raises NewerStoreError, BadDatabaseError, DatabaseUnavailableError.
        """
        with self._translated():
            return self._version() == 0

    def create(self, flavour: Flavour) -> None:
        """Make the schema, unless that was done meanwhile, and record *flavour*."""
        with self.write() as rows:
            if self._version():
                return
            _execute(rows, _SCHEMA + _BLOBS)
            rows.execute("INSERT INTO settings VALUES ('flavour', ?)", (flavour.name,))
            rows.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            rows.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def prepare(self) -> Flavour:
        """Set the connection up; return the flavour that the store was made with."""
        with self._translated():
            self._connection.execute("PRAGMA journal_mode = PERSIST")
            self._connection.execute(f"PRAGMA journal_size_limit = {_RESERVED}")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
        with self.read() as rows:
            row = rows.execute("SELECT value FROM settings WHERE name = 'flavour'").fetchone()
        self._reserve()
        return Flavour[row["value"]]

    def is_old(self) -> bool:
        """Return whether the schema is that of an earlier version, to be brought up."""
        with self._translated():
            return 0 < self._version() < SCHEMA_VERSION

    def bring_up(self) -> None:
        """Make an older schema this version's, in one transaction, unless that was done meanwhile.

        Raises DatabaseUnavailableError (no space, read-only); the schema is then as it was.
        """
        with self.write() as rows:
            if self._version() < SCHEMA_VERSION:
                _execute(rows, _BLOBS)
                rows.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def stand_in(self) -> None:
        """For this connection only, let an older schema look like this version's.

        What fills a disk must be removable, and removing needs no more than the old tables.
        """
        with self._translated():
            self._connection.execute("PRAGMA temp_store = MEMORY")
            self._connection.execute(_NO_BLOBS)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that may write: committed at the end, rolled back on an exception."""
        with uninterrupted(), self._lock, self._translated():
            try:
                # In here, because a KeyboardInterrupt may come as soon as it has begun.
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                # After a failed COMMIT as well: SQLite keeps the transaction open on a full disk.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A transaction in which several SELECTs see one state."""
        with uninterrupted(), self._lock, self._translated():
            try:
                self._connection.execute("BEGIN")
                yield self._connection
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection; closing twice is fine."""
        self._connection.close()

    def _version(self) -> int:
        version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        application: int = self._connection.execute("PRAGMA application_id").fetchone()[0]
        if application not in (0, _APPLICATION_ID) or (version and not application):
            raise BadDatabaseError(f"{self._path} is not a store's database")
        if version > SCHEMA_VERSION:
            raise NewerStoreError(
                f"the store at {os.path.dirname(self._path)} has version {version}, written by a "
                f"newer unionfs; this one knows version {SCHEMA_VERSION}"
            )
        return version

    def _reserve(self) -> None:
        """See to it that the journal has its blocks; on a full disk that is for another time."""
        journal = f"{self._path}-journal"
        try:
            if _size(journal) < _RESERVED:
                with self.write():  # so the journal is nobody's now, and holds nothing that counts
                    _extend(journal, _RESERVED)
        except (OSError, DatabaseUnavailableError):
            pass

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise DatabaseUnavailableError(f"no space left for {self._path}") from error
            raise DatabaseUnavailableError(f"{self._path}: {error}") from error
        except sqlite3.IntegrityError:
            raise  # the caller knows which constraint that was, and says it in words
        except sqlite3.DatabaseError as error:
            raise BadDatabaseError(f"{self._path}: {error}") from error


def _execute(rows: sqlite3.Connection, script: str) -> None:
    """Run the statements of *script* in the transaction (``executescript`` would end it)."""
    for statement in script.split(";\n"):
        rows.execute(statement)


def _make_private(path: str) -> None:
    """Make the file *path* for its owner only, if it is not there.

    One that is there is not opened: closing it would drop the locks that another connection of
    this process has on it (fcntl(2), "record locks").
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _extend(path: str, size: int) -> None:
    """Write zeros up to *size* bytes to the file *path* (made 0600), so that it has its blocks."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        while (missing := size - os.fstat(fd).st_size) > 0:
            os.write(fd, bytes(missing))
        os.fsync(fd)
    finally:
        os.close(fd)
