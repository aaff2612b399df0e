"""Leases: what keeps a layer, and what goes when nobody does."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from pathlib import Path

import pytest

from tests.support.stores import (
    add_image,
    applying,
    diff_id,
    everything,
    ingest,
    kill_at_line,
    python,
)
from tests.support.tars import file, tar
from unionfs.store.garbage import Sweep
from unionfs.store.store import Store

ONE, TWO = tar(file("one", b"1")), tar(file("two", b"22"))


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(str(tmp_path / "store")) as opened:
        yield opened


def test_layers_that_no_image_took_up_go_with_the_lease(store: Store):
    before = everything(Path(store.root))
    with store.lease([diff_id(ONE)]):
        ingest(store, ONE)
        with store.lease():
            pass  # collects, and leaves what the other lease holds
        assert store.layers.has(diff_id(ONE))
    assert not store.layers.has(diff_id(ONE))
    assert everything(Path(store.root)) == before


def test_a_lease_holds_layers_while_their_image_is_removed(store: Store):
    image = add_image(store, ONE, TWO)
    with store.lease([diff_id(ONE)]):
        assert store.images.remove([image.id]) == (diff_id(TWO),)
        assert store.layers.has(diff_id(ONE))
        assert not store.layers.has(diff_id(TWO))
        other = add_image(store, ONE)
    assert store.layers.has(diff_id(ONE))
    assert store.images.remove([other.id]) == (diff_id(ONE),)


def test_an_exception_ends_the_lease_as_well(store: Store):
    with pytest.raises(ZeroDivisionError), store.lease([diff_id(ONE)]):
        ingest(store, ONE)
        raise ZeroDivisionError
    assert store.layers.list() == []


HOLD = """
import os, sys, time
sys.path.insert(0, os.getcwd())
from tests.support.stores import ingest, diff_id
from unionfs.store.store import Store
data = open(sys.argv[2], "rb").read()
with Store.open(sys.argv[1]) as store, store.lease([diff_id(data)]):
    ingest(store, data)
    print("stored", flush=True)
    time.sleep(60)
"""


def test_a_killed_import_keeps_its_layers_for_the_next_one_only(store: Store, tmp_path: Path):
    (tmp_path / "tar").write_bytes(ONE)
    kill_at_line(python(HOLD, store.root, tmp_path / "tar"), b"stored")
    assert store.layers.has(diff_id(ONE))
    with store.lease([diff_id(ONE)]):  # run again: it finds the layer
        assert store.layers.has(diff_id(ONE))
    kill_at_line(python(HOLD, store.root, tmp_path / "tar"), b"stored")
    with store.lease([diff_id(TWO)]):  # another import: it collects
        assert not store.layers.has(diff_id(ONE))


def test_directories_that_no_row_names_are_collected(store: Store):
    image = add_image(store, ONE)
    container = store.containers.create(image)
    database = sqlite3.connect(Path(store.root) / "store.db")
    for table in ("containers", "image_layers", "images", "layers"):
        database.execute(f"DELETE FROM {table}")
    database.commit()
    database.close()
    (Path(store.root) / "layers" / "sha256" / "stranger").mkdir()
    with store.lease():
        assert not os.path.exists(store.layers.path(diff_id(ONE)))
        assert not os.path.exists(store.containers.path(container.id))
    assert os.listdir(Path(store.root) / "layers" / "sha256") == ["stranger"]


def test_scratch_directories_of_the_living_stay(store: Store):
    with store.scratch() as mine:
        Path(mine, "work").touch()
        dead = Path(store.root) / "tmp" / "dead"
        dead.mkdir()
        (dead / "file").touch()
        with store.lease():
            assert not dead.exists()
            assert Path(mine, "work").exists()
    assert not os.path.exists(mine)


def test_an_import_does_not_stumble_over_what_cannot_be_removed(store: Store):
    (Path(store.root) / "tmp" / "file").touch()  # not ours, and no directory
    with store.lease([diff_id(ONE)]):
        store.layers.ingest(diff_id(ONE), applying(ONE))


def test_lock_files_of_dead_holders_go_and_those_of_living_ones_stay(store: Store):
    """One for a container that was never made would be asked for by nobody again."""
    locks = Path(store.root) / "locks"
    (locks / "dead").touch()
    with open(locks / "living", "wb") as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        with store.lease():
            pass
        assert os.listdir(locks) == ["living"]
    with store.lease():
        pass
    assert os.listdir(locks) == []


def litter(store: Store) -> set[str]:
    """Leave one of everything that nothing refers to; return what ``gc`` calls each."""
    image = add_image(store, ONE)
    container = store.containers.create(image)
    database = sqlite3.connect(Path(store.root) / "store.db")
    for table in ("containers", "image_layers", "images"):
        database.execute(f"DELETE FROM {table}")
    database.execute("INSERT INTO leases VALUES ('dead', ?)", (str(diff_id(ONE)),))
    database.commit()
    database.close()
    blob, chain = diff_id(TWO), diff_id(b"")
    Path(store.blobs.path(blob)).write_bytes(bytes(5000))
    Path(store.root, "fixups", "sha256", chain.hex, "diff").mkdir(parents=True)
    Path(store.root, "tmp", "scratch").mkdir()
    return {
        f"layer {diff_id(ONE)}",
        f"blob {blob}",
        f"fix-up {chain}",
        f"container {container.id}",
        "temporary directory scratch",
    }


def test_a_sweep_tells_what_goes_and_a_dry_one_what_would(store: Store):
    before = everything(Path(store.root))
    named = litter(store)
    littered = everything(Path(store.root))
    dry, wet = Sweep(dry=True, measured=True), Sweep(measured=True)
    store.sweep(dry)
    assert everything(Path(store.root)) == littered
    store.sweep(wet)
    assert everything(Path(store.root)) == before
    assert dry.found == wet.found
    assert {f"{one.kind} {one.name}" for one in wet.found} == named
    sizes = {one.kind: one.size for one in wet.found}
    assert sizes["blob"] == 8192
    assert sizes["layer"] >= 2 * 4096 + 4096  # its directories, its file
    with Store.open(store.root) as again:
        sweep = Sweep()
        again.sweep(sweep)
        assert sweep.found == []


def test_a_sweep_goes_on_after_what_cannot_be_removed(store: Store, monkeypatch):
    named = litter(store)
    real = store._parts.scratch.discard

    def discard(path: str) -> None:
        if path.endswith(diff_id(b"").hex):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        real(path)

    monkeypatch.setattr(type(store._parts.scratch), "discard", lambda self, path: discard(path))
    failures = []
    sweep = Sweep(failed=lambda what, error: failures.append((what, error.errno)))
    store.sweep(sweep)
    assert failures == [(f"fix-up {diff_id(b'')}", errno.EBUSY)]
    assert {f"{one.kind} {one.name}" for one in sweep.found} == named - {failures[0][0]}
