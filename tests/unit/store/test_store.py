"""Opening a store: making it, refusing what is none, knowing its version."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from tests.support.layers import FLAVOUR
from tests.support.stores import finish, python
from unionfs.store.database import (
    SCHEMA_VERSION,
    BadDatabaseError,
    Database,
    DatabaseUnavailableError,
    NewerStoreError,
)
from unionfs.store.layout import NoStoreError, NotAStoreError
from unionfs.store.store import Store


def test_directories_of_a_new_store_are_for_their_owner_only(tmp_path: Path):
    old = os.umask(0)
    try:
        Store.open(str(tmp_path / "a" / "store")).close()
    finally:
        os.umask(old)
    root = tmp_path / "a" / "store"
    modes = {str(p.relative_to(root)): stat.S_IMODE(p.stat().st_mode) for p in root.rglob("*")}
    assert modes.pop("empty") == 0o755  # seen as the root of an image without layers
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert {mode for name, mode in modes.items() if (root / name).is_dir()} == {0o700}
    assert {mode for name, mode in modes.items() if (root / name).is_file()} <= {0o600}


def test_the_flavour_is_recorded(tmp_path: Path):
    with Store.open(str(tmp_path / "s")) as store:
        assert store.flavour is FLAVOUR
    database = sqlite3.connect(tmp_path / "s" / "store.db")
    database.execute("UPDATE settings SET value = 'USER' WHERE name = 'flavour'")
    database.commit()
    database.close()
    with Store.open(str(tmp_path / "s")) as store:
        assert store.flavour.name == "USER"


def test_a_newer_store_is_refused_by_name(tmp_path: Path):
    Store.open(str(tmp_path)).close()
    database = sqlite3.connect(tmp_path / "store.db")
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(NewerStoreError, match=f"{tmp_path} has version {SCHEMA_VERSION + 1}"):
        Store.open(str(tmp_path))


def test_without_create_there_must_be_a_store(tmp_path: Path):
    with pytest.raises(NoStoreError, match="no store at"):
        Store.open(str(tmp_path / "none"), create=False)
    assert not (tmp_path / "none").exists()


def test_a_directory_of_something_else_is_not_taken(tmp_path: Path):
    (tmp_path / "letters").touch()
    with pytest.raises(NotAStoreError, match="'letters'"):
        Store.open(str(tmp_path))
    assert os.listdir(tmp_path) == ["letters"]


def test_an_empty_filesystem_is_taken(tmp_path: Path):
    (tmp_path / "lost+found").mkdir()
    Store.open(str(tmp_path)).close()


@pytest.mark.parametrize("content", [b"no database at all, and long enough to be one" * 50])
def test_a_damaged_database_is_named(tmp_path: Path, content: bytes):
    Store.open(str(tmp_path)).close()
    (tmp_path / "store.db").write_bytes(content)
    with pytest.raises(BadDatabaseError, match=r"store\.db"):
        Store.open(str(tmp_path))


def test_the_database_of_another_program_is_refused(tmp_path: Path):
    database = sqlite3.connect(tmp_path / "store.db")
    database.execute("PRAGMA application_id = 77")
    database.execute("CREATE TABLE t (x)")
    database.close()
    with pytest.raises(BadDatabaseError, match="not a store's database"):
        Store.open(str(tmp_path))


def test_a_store_cannot_be_below_a_file(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(NotAStoreError, match="file/store is not a store and not a directory"):
        Store.open(str(tmp_path / "file" / "store"))


def test_what_a_killed_maker_left_is_finished(tmp_path: Path):
    (tmp_path / "layers").mkdir()
    (tmp_path / "store.db").touch()
    with Store.open(str(tmp_path)) as store:
        assert store.images.list() == []
        assert store.flavour is FLAVOUR


def test_many_processes_make_one_store(tmp_path: Path):
    program = (
        "import sys; from unionfs.store.store import Store\n"
        "with Store.open(sys.argv[1]) as store: print(len(store.images.list()))"
    )
    processes = [python(program, tmp_path / "s") for _ in range(6)]
    assert [finish(process) for process in processes] == [b"0\n"] * 6


def test_a_database_without_room_says_so_and_keeps_what_it_has(tmp_path: Path):
    Store.open(str(tmp_path)).close()
    database = Database(str(tmp_path / "store.db"))
    database.prepare()

    def grow() -> None:
        with database.write() as rows:
            pages = rows.execute("PRAGMA page_count").fetchone()[0]
            rows.execute(f"PRAGMA max_page_count = {pages}")
            rows.execute("INSERT INTO settings VALUES ('x', ?)", ("x" * 100_000,))

    with pytest.raises(DatabaseUnavailableError, match=f"no space left for {tmp_path}/store.db"):
        grow()
    with database.read() as rows:
        assert [row["name"] for row in rows.execute("SELECT name FROM settings")] == ["flavour"]
    database.close()


def test_the_journal_keeps_its_blocks_whatever_is_done_and_gets_them_back(tmp_path: Path):
    journal = tmp_path / "store.db-journal"
    with Store.open(str(tmp_path)) as store:
        size = journal.stat().st_size
        with store.lease():
            pass
        assert (journal.stat().st_size, journal.stat().st_blocks * 512) == (size, size)
    assert journal.stat().st_size == size > 100_000
    journal.unlink()
    Store.open(str(tmp_path)).close()
    assert journal.stat().st_size == size


def test_a_second_store_in_the_process_takes_no_locks_from_the_first(tmp_path: Path):
    path = tmp_path / "store.db"
    Store.open(str(tmp_path)).close()
    first = Database(str(path))
    first.prepare()
    with first.write():
        Database(str(path)).close()
        program = "import sqlite3, sys; sqlite3.connect(sys.argv[1], 0).execute('BEGIN IMMEDIATE')"
        assert b"locked" in python(program, path).communicate()[1]
    first.close()


@pytest.mark.parametrize("kind", ["write", "read"])
def test_an_interruption_right_after_the_beginning_leaves_no_lock(tmp_path: Path, kind: str):
    """``run`` was interrupted there, and its clean-up waited a minute for its own first lock."""
    path = str(tmp_path / "s" / "store.db")
    Store.open(str(tmp_path / "s")).close()
    database = Database(path)
    real = database._connection
    database._connection = _Interrupted(real)  # type: ignore[assignment]
    # The exception keeps the frames alive, as it does for the clean-up that it passes through.
    with pytest.raises(KeyboardInterrupt) as caught, getattr(database, kind)():
        pass
    assert caught.tb is not None
    assert not real.in_transaction
    other = sqlite3.connect(path, timeout=0)
    other.execute("BEGIN EXCLUSIVE")
    other.close()
    real.close()


class _Interrupted:
    """A connection on which a signal's exception comes as soon as a transaction has begun."""

    def __init__(self, real: sqlite3.Connection) -> None:
        self._real = real

    @property
    def in_transaction(self) -> bool:
        return self._real.in_transaction

    def execute(self, statement: str) -> None:
        self._real.execute(statement)
        if statement.startswith("BEGIN"):
            raise KeyboardInterrupt
