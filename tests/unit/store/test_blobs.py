"""Blobs that are kept beside their layers, and stores of a version that knew none."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from tests.support.stores import add_image, diff_id, ingest
from tests.support.tars import file, tar
from unionfs.digest import Digest
from unionfs.store import store as stores
from unionfs.store.blobs import Shipped
from unionfs.store.database import SCHEMA_VERSION, Database, DatabaseUnavailableError
from unionfs.store.store import Store

ONE = tar(file("a", b"1"))
SHIPPED = b"as it was shipped"


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(str(tmp_path / "store")) as opened:
        yield opened


def keep(store: Store) -> Digest:
    """Keep SHIPPED as the blob of the layer ONE."""
    found = Shipped(Digest.of(SHIPPED), "type/x", len(SHIPPED))
    with store.scratch() as scratch:
        made = Path(scratch, "blob")
        made.write_bytes(SHIPPED)
        store.blobs.keep(str(made), found.of(diff_id(ONE)))
    return found.digest


def test_a_blob_is_kept_and_dropped(store: Store):
    add_image(store, ONE)
    digest = keep(store)
    assert keep(store) == digest
    (blob,) = store.blobs.list()
    assert (blob.digest, blob.media_type, blob.size) == (digest, "type/x", len(SHIPPED))
    assert store.blobs.of_layer(diff_id(ONE)) == [blob]
    assert Path(store.blobs.path(digest)).read_bytes() == SHIPPED
    assert not store.blobs.drop(blob, lambda rows: True)
    assert store.blobs.drop(blob)
    assert store.blobs.list() == []
    assert not os.path.exists(store.blobs.path(digest))


def test_a_blob_goes_with_its_layer(store: Store):
    image = add_image(store, ONE)
    digest = keep(store)
    store.images.remove([image.id])
    assert store.blobs.list() == []
    assert not os.path.exists(store.blobs.path(digest))


def test_a_blob_of_no_layer_is_not_kept(store: Store):
    with pytest.raises(sqlite3.IntegrityError):
        keep(store)
    with store.lease():
        pass
    assert os.listdir(Path(store.root, "blobs/sha256")) == []


def make_old(root: Path) -> None:
    """Turn the store at *root* into one of version 1."""
    database = sqlite3.connect(root / "store.db")
    database.executescript("DROP TABLE blobs; PRAGMA user_version = 1")
    database.close()
    for place in ("sha256", "sha512", ""):
        (root / "blobs" / place).rmdir()


def version(root: Path) -> int:
    database = sqlite3.connect(root / "store.db")
    found: int = database.execute("PRAGMA user_version").fetchone()[0]
    database.close()
    return found


def schema(root: Path) -> set[str]:
    database = sqlite3.connect(root / "store.db")
    found = {row[0] for row in database.execute("SELECT sql FROM sqlite_master WHERE sql NOTNULL")}
    database.close()
    return found


def test_an_older_store_is_brought_up(tmp_path: Path):
    with Store.open(str(tmp_path / "new")) as store:
        image = add_image(store, ONE, names=["one"])
        store.containers.create(image, "mine")
    wanted = schema(tmp_path / "new")
    make_old(tmp_path / "new")
    assert schema(tmp_path / "new") != wanted
    with Store.open(str(tmp_path / "new")) as store:
        assert store.images.resolve("one") == image
        assert store.containers.resolve("mine").image_id == image.id
        keep(store)
    assert (version(tmp_path / "new"), schema(tmp_path / "new")) == (SCHEMA_VERSION, wanted)


def test_an_older_store_on_a_full_disk_can_be_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What fills the disk can be removed before there is room for the new tables."""
    with Store.open(str(tmp_path)) as store:
        image = add_image(store, ONE, names=["one"])
    make_old(tmp_path)

    def full(_database: Database) -> None:
        raise DatabaseUnavailableError("no space left")

    monkeypatch.setattr(stores.Database, "bring_up", full)
    with Store.open(str(tmp_path)) as store:
        assert version(tmp_path) == 1
        assert store.blobs.list() == []
        store.images.remove([image.id])
        assert store.layers.list() == []
    monkeypatch.undo()
    with Store.open(str(tmp_path)) as store, store.lease():
        ingest(store, ONE)
        keep(store)
    assert version(tmp_path) == SCHEMA_VERSION
