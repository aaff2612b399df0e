"""Storing layers: whole or not at all, once, whoever else does it at the same time."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.support.stores import (
    add_image,
    applying,
    diff_id,
    everything,
    finish,
    ingest,
    kill_at_line,
    python,
)
from tests.support.tars import dir_, file, opaque, tar
from unionfs.digest import Digest
from unionfs.errors import CorruptError, NotFoundError
from unionfs.store.layers import MissingLayerError, WrongLayerError
from unionfs.store.parts import AmbiguousError, StoreFullError
from unionfs.store.store import Store

ONE = tar(dir_("etc/"), file("etc/passwd", b"root"))
TWO = tar(file("a/b/c", b"12345"))


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(str(tmp_path / "store")) as opened:
        yield opened


def never(_making):
    raise AssertionError("applied although it is stored")


def test_a_stored_layer_is_described(store: Store):
    with store.lease():
        record = store.layers.ingest(diff_id(ONE), applying(ONE))
        assert (record.diff_id, record.tar_size, record.content_size, record.entries) == (
            diff_id(ONE),
            len(ONE),
            4,
            2,
        )
        assert record.images == ()
        assert store.layers.has(diff_id(ONE))
        assert not store.layers.has(diff_id(TWO))
        path = Path(store.layers.path(diff_id(ONE)))
        assert (path / "etc" / "passwd").read_bytes() == b"root"
        assert store.layers.ingest(diff_id(ONE), never) == record
        assert store.layers.list() == [record]


def test_layers_are_found_by_the_beginning_of_their_id(store: Store):
    with store.lease():
        ingest(store, ONE, TWO)
        full = diff_id(ONE)
        for text in (str(full), full.hex, full.short, f"sha256:{full.short}"):
            assert store.layers.get(text).diff_id == full
        for text in ("", "xyz", "sha512:" + full.short, "sha256:", "*", full.hex + "0"):
            with pytest.raises(NotFoundError, match="no such layer"):
                store.layers.get(text)


def test_an_ambiguous_beginning_names_the_candidates(store: Store):
    tars = [tar(file("f", b"%d" % number)) for number in range(17)]  # 17 IDs, 16 first digits
    with store.lease():
        ids = [str(found) for found in ingest(store, *tars)]
        first = next(c for c in "0123456789abcdef" if sum(i[7] == c for i in ids) > 1)
        with pytest.raises(AmbiguousError, match="several layer IDs: sha256:" + first):
            store.layers.get(first)


def test_the_wrong_content_is_not_stored(store: Store):
    before = everything(Path(store.root))
    with store.lease(), pytest.raises(WrongLayerError, match=str(diff_id(TWO))):
        store.layers.ingest(diff_id(ONE), applying(TWO))
    assert everything(Path(store.root)) == before
    assert store.layers.list() == []


def test_nothing_stays_of_a_layer_that_fails(store: Store):
    before = everything(Path(store.root))
    with store.lease(), pytest.raises(CorruptError):
        store.layers.ingest(diff_id(ONE), applying(ONE[:700]))
    assert everything(Path(store.root)) == before


def test_a_full_disk_is_said_in_one_line(store: Store):
    def full(_making):
        raise OSError(28, os.strerror(28))

    with store.lease(), pytest.raises(StoreFullError) as caught:
        store.layers.ingest(diff_id(ONE), full)
    assert "no space left" in str(caught.value)
    assert str(diff_id(ONE)) in str(caught.value)


def test_a_layer_without_its_row_is_taken_over(store: Store, tmp_path: Path):
    with store.lease():
        first = ingest(store, ONE)[0]
        # As if the process had been killed between the rename and the row.
        database = sqlite3.connect(Path(store.root) / "store.db")
        database.execute("DELETE FROM layers")
        database.commit()
        database.close()
        record = store.layers.ingest(first, never)
        assert (record.tar_size, record.content_size, record.entries) == (len(ONE), 4, 2)


def test_a_layer_whose_directory_is_gone_is_made_again(store: Store):
    with store.lease():
        first = ingest(store, ONE)[0]
        shutil.rmtree(Path(store.layers.path(first)).parent)
        assert not store.layers.has(first)
        ingest(store, ONE)
        assert store.layers.has(first)


def test_an_unnamed_layer_is_leased_before_it_is_published(store: Store):
    seen: list[Digest] = []

    def found(name: Digest) -> None:
        assert os.path.exists(store.layers.path(name)) == bool(seen)
        seen.append(name)

    with store.lease() as lease:
        record = store.layers.ingest_unknown(applying(ONE), found)
        lease.add([record.diff_id])
        again = store.layers.ingest_unknown(applying(ONE), found)
        assert record == again
        assert seen == [diff_id(ONE)] * 2


def test_a_damaged_record_is_named(store: Store):
    with store.lease():
        first = ingest(store, ONE)[0]
        sidecar = Path(store.layers.path(first)).parent / "layer.json"
        sidecar.write_bytes(b"{}")
        with pytest.raises(MissingLayerError, match=f"{first}: its record is damaged"):
            store.layers.sidecar(first)


def test_names_of_implicit_directories_survive_any_encoding(store: Store):
    odd = tar(file(b"\xff\xfe/\xc3\xa4/f", b""))
    with store.lease():
        first = ingest(store, odd)[0]
        assert store.layers.sidecar(first).implicit_dirs == (b"", b"\xff\xfe", b"\xff\xfe/\xc3\xa4")


def test_an_opaque_root_is_recorded(store: Store):
    with store.lease():
        first, second = ingest(store, tar(opaque(""), file("a")), ONE)
        assert store.layers.sidecar(first).root_opaque
        assert not store.layers.sidecar(second).root_opaque


INGEST = """
import os, sys, time
sys.path.insert(0, os.getcwd())
from tests.support.stores import applying, diff_id
from unionfs.store.store import Store
data = open(sys.argv[2], "rb").read()

def apply(making):
    with open(sys.argv[3], "a") as log:
        log.write("x")
    print("applying", flush=True)
    time.sleep(float(sys.argv[4]))
    return applying(data)(making)

with Store.open(sys.argv[1]) as store, store.lease([diff_id(data)]):
    print(store.layers.ingest(diff_id(data), apply).entries)
    sys.stdin.read() if len(sys.argv) > 5 else None
"""


def test_two_processes_store_one_layer_once(store: Store, tmp_path: Path):
    (tmp_path / "tar").write_bytes(ONE)
    words = (store.root, tmp_path / "tar", tmp_path / "log", "0.5")
    with store.lease([diff_id(ONE)]):
        first, second = python(INGEST, *words), python(INGEST, *words)
        outputs = sorted((finish(first), finish(second)))
        assert outputs == [b"2\n", b"applying\n2\n"]
        assert (tmp_path / "log").read_text() == "x"
        assert store.layers.has(diff_id(ONE))


def test_a_killed_writer_leaves_nothing_to_clean_by_hand(store: Store, tmp_path: Path):
    before = everything(Path(store.root))
    (tmp_path / "tar").write_bytes(ONE)
    process = python(INGEST, store.root, tmp_path / "tar", tmp_path / "log", "60")
    kill_at_line(process, b"applying")
    assert everything(Path(store.root)) - before  # it did leave something, which the next removes
    image = add_image(store, ONE)
    assert store.images.stack(image.id) == [store.layers.path(diff_id(ONE))]
    store.images.remove([image.id])
    left = {path for path in everything(Path(store.root)) - before if not path.startswith("locks")}
    assert left == set()
