"""Faults of a store, each made by hand."""

from __future__ import annotations

import fcntl
import gzip
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.stores import add_image, diff_id, ingest
from tests.support.tars import dir_, file, tar
from unionfs.container.check import Finding, check
from unionfs.digest import Digest
from unionfs.image.verify import verify_layer
from unionfs.store.blobs import Shipped
from unionfs.store.store import Store

BASE, TOP = tar(dir_("usr", mode=0o700), file("usr/a", b"1")), tar(file("usr/b", b"2"))
UNUSED = tar(file("unused", b""))
BLOB = b"as it was shipped"


class Shop:
    """A store with an image of two layers, a fix-up, a kept blob and the container ``one``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store.open(str(root))
        self.image = add_image(self.store, BASE, TOP, names=["a"])
        self.container = self.store.containers.create(self.image, "one")
        shipped = Shipped(Digest.of(BLOB), "type/x", len(BLOB))
        with self.store.scratch() as scratch:
            Path(scratch, "blob").write_bytes(BLOB)
            self.store.blobs.keep(f"{scratch}/blob", shipped.of(diff_id(TOP)))
        self.layer = root / "layers/sha256" / diff_id(BASE).hex
        self.top = root / "layers/sha256" / diff_id(TOP).hex
        self.blob = Path(self.store.blobs.path(shipped.digest))
        self.home = root / "containers" / self.container.id
        assert self.image.chain_id is not None
        self.fixup = root / "fixups/sha256" / self.image.chain_id.hex

    def sql(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.root / "store.db")) as database:
            database.execute(statement, values)
            database.commit()

    def check(self, *, repair: bool = False) -> list[Finding]:
        """Return what is found but for missing indexes, which tests/cli/test_index.py is about."""
        found = check(self.store, repair=repair)
        return [one for one in found if "has no index" not in one.says]


@pytest.fixture
def shop(tmp_path: Path):
    shop = Shop(tmp_path / "store")
    yield shop
    shop.store.close()


def test_a_sound_store_has_no_faults(shop: Shop) -> None:
    assert shop.fixup.is_dir()
    assert shop.check() == []
    with shop.store.lease(), shop.store.scratch():  # beside somebody who is at work
        assert shop.check() == []


def no_layer(shop: Shop) -> None:
    shutil.rmtree(shop.layer)


def no_sidecar(shop: Shop) -> None:
    (shop.layer / "layer.json").write_text("{")


def other_layer(shop: Shop) -> None:
    shutil.copy(shop.top / "layer.json", shop.layer)


def bad_recipe(shop: Shop) -> None:
    (shop.layer / "recipe").write_bytes((shop.layer / "recipe").read_bytes()[:-9])


def bad_recipe_with_blob(shop: Shop) -> None:
    (shop.top / "recipe").write_bytes(b"nonsense")


def open_layer(shop: Shop) -> None:
    shop.layer.chmod(0o755)


def open_root(shop: Shop) -> None:
    shop.root.chmod(0o755)


def open_database(shop: Shop) -> None:
    (shop.root / "store.db").chmod(0o644)


def no_directory(shop: Shop) -> None:
    (shop.root / "fixups/sha512").rmdir()


def no_blob(shop: Shop) -> None:
    shop.blob.unlink()


def short_blob(shop: Shop) -> None:
    shop.blob.write_bytes(BLOB[:-1])


def only_tar_short(shop: Shop) -> None:
    short_blob(shop)
    (shop.top / "recipe").unlink()


def no_fixup(shop: Shop) -> None:
    shutil.rmtree(shop.fixup)


def no_container(shop: Shop) -> None:
    shutil.rmtree(shop.home)


def no_upper(shop: Shop) -> None:
    (shop.home / "upper").rmdir()


def no_work(shop: Shop) -> None:
    (shop.home / "work").rmdir()


def extra_layer(shop: Shop) -> None:
    shutil.copytree(shop.layer, shop.layer.with_name("0" * 64))


def extra_container(shop: Shop) -> None:
    shutil.copytree(shop.home, shop.home.with_name("0" * 64))
    (shop.home.with_name("0" * 64) / "upper/changed").touch()


def unborn_container(shop: Shop) -> None:
    shutil.copytree(shop.home, shop.home.with_name("0" * 64))


def whole_layer(shop: Shop) -> None:
    unused_layer(shop)
    shop.sql("DELETE FROM layers WHERE diff_id = ?", str(diff_id(UNUSED)))


def whole_fixup(shop: Shop) -> None:
    shutil.copytree(shop.fixup, shop.fixup.with_name("0" * 64))


def extra_blob(shop: Shop) -> None:
    shutil.copy(shop.blob, shop.blob.with_name("0" * 64))


def other_config(shop: Shop) -> None:
    shop.sql("UPDATE images SET config = ?", shop.image.config_blob + b" ")


def other_layers(shop: Shop) -> None:
    shop.sql("UPDATE image_layers SET diff_id = ? WHERE position = 0", str(diff_id(TOP)))


def lost_row(shop: Shop) -> None:
    shop.sql("INSERT INTO names VALUES ('b:1', 'sha256:nothing')")


def half_made(shop: Shop) -> None:
    shutil.copytree(shop.layer, shop.root / "tmp/dead")


def unused_layer(shop: Shop) -> None:
    ingest(shop.store, UNUSED)


HARMLESS = (half_made, unused_layer, whole_layer, whole_fixup, unborn_container)


@pytest.mark.parametrize(
    "damage, what, says, repaired",
    [
        (no_layer, "layer sha256:", "directory is gone", None),
        (no_sidecar, "layer sha256:", "half-made", True),
        (other_layer, "layer sha256:", str(diff_id(TOP)), True),
        (bad_recipe, "layer sha256:", "cannot be exported", False),
        (bad_recipe_with_blob, "layer sha256:", "cannot be made", True),
        (open_layer, "layer sha256:", "mode 0755", True),
        (open_root, "directory /", "mode 0755", True),
        (open_database, "database /", "mode 0644", True),
        (no_directory, "directory /", "missing", True),
        (no_blob, "blob sha256:", "is gone", True),
        (short_blob, "blob sha256:", f"{len(BLOB) - 1} bytes instead of {len(BLOB)}", True),
        (only_tar_short, "blob sha256:", "nothing else has", False),
        (no_fixup, "image a:latest", "metadata", True),
        (no_container, "container one", "directory is gone", True),
        (no_upper, "container one", "changes are gone", False),
        (no_work, "container one", "no work directory", True),
        (extra_layer, f"layer sha256:{'0' * 64}", "nothing refers to it", True),
        (extra_container, f"container {'0' * 64}", "nothing refers to it", True),
        (extra_blob, f"blob sha256:{'0' * 64}", "nothing refers to it", True),
        (other_config, "image a:latest", "config is not", False),
        (other_layers, "image a:latest", "layers are not", False),
        (lost_row, "database /", "rows in names", False),
        (half_made, "temporary directory dead", "nothing refers to it", True),
        (unused_layer, "layer sha256:", "nothing refers to it", True),
        (whole_layer, "layer sha256:", "nothing refers to it", True),
        (whole_fixup, f"fix-up sha256:{'0' * 64}", "nothing refers to it", True),
        (unborn_container, f"container {'0' * 64}", "nothing refers to it", True),
    ],
)
def test_a_fault_is_named_and_repaired_where_that_is_possible(
    shop: Shop, damage: Callable[[Shop], None], what: str, says: str, repaired: bool | None
) -> None:
    """None: it is tried, and nothing is left to do it with."""
    damage(shop)
    found = shop.check()
    first = found[0]
    assert first.what.startswith(what)
    assert says in first.says
    assert (first.repairable, first.done) == (repaired is not False, None)
    assert first.harmless == (damage in HARMLESS)
    after = shop.check(repair=True)[0]
    assert (after.done is not None) == bool(repaired)
    left = shop.check()
    assert left == [] if repaired else first in left
    shop.root.chmod(0o700)


@pytest.mark.parametrize("lost", ["", "diff", "layer.json"])
def test_a_layer_is_made_again_of_its_blob(shop: Shop, tmp_path: Path, lost: str) -> None:
    blob = gzip.compress(BASE)
    shipped = Shipped(Digest.of(blob), "type/x", len(blob))
    with shop.store.scratch() as scratch:
        Path(scratch, "blob").write_bytes(blob)
        shop.store.blobs.keep(f"{scratch}/blob", shipped.of(diff_id(BASE)))
    subprocess.run(["cp", "-a", shop.layer, tmp_path / "before"], check=True)
    subprocess.run(["rm", "-r", shop.layer / lost], check=True)
    (found,) = shop.check(repair=True)
    assert found.done == "made it again"
    assert shop.check() == []
    before, after = (set(path.rglob("*")) for path in (tmp_path / "before", shop.layer))
    assert {one.relative_to(shop.layer) for one in after} == {
        one.relative_to(tmp_path / "before") for one in before
    }
    assert list(verify_layer(shop.store, diff_id(BASE), lambda count: None)) == []


def test_a_layer_that_is_mounted_is_not_made_again(shop: Shop) -> None:
    no_sidecar(shop)
    fd = os.open(shop.layer / "diff", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)  # as a daemon does
    try:
        found = shop.check(repair=True)[0]
        assert "is mounted: unmount it first" in found.says
    finally:
        os.close(fd)


def test_a_fixup_that_was_made_again_shows_what_it_did(shop: Shop) -> None:
    no_fixup(shop)
    shop.check(repair=True)
    assert os.stat(shop.fixup / "diff/usr").st_mode & 0o777 == 0o700


def test_a_container_without_its_directory_goes_with_its_name_only(shop: Shop) -> None:
    no_container(shop)
    shop.check(repair=True)
    assert shop.store.containers.list() == []
    assert shop.store.images.get(shop.image.id).names == ("a:latest",)


def test_a_repair_that_fails_is_told(shop: Shop, monkeypatch) -> None:
    open_layer(shop)

    def refuse(*words: object) -> None:
        raise PermissionError(1, "Operation not permitted", words[0])

    monkeypatch.setattr(os, "chmod", refuse)
    (found,) = shop.check(repair=True)
    assert found.done is None
    assert "could not be repaired" in found.says
