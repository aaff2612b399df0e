"""gc: beside what goes on, and what it tells."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.command import Cli
from tests.support.images import Layout
from tests.support.stores import diff_id, python
from tests.support.tars import file, tar

BIG = tar(file("big", os.urandom(100_000)))


@pytest.fixture
def own(tmp_path: Path) -> Cli:
    """A store with the image ``a``, whose one layer was compressed."""
    cli = Cli(tmp_path / "store")
    layout = Layout(tmp_path / "layout")
    layout.index(layout.image([BIG]))
    cli("image", "import", f"oci:{layout.path}", "--name", "a")
    return cli


HOLD = """
import os, sys, time
sys.path.insert(0, os.getcwd())
from tests.support.stores import ingest, diff_id
from unionfs.store.store import Store
data = open(sys.argv[2], "rb").read()
with Store.open(sys.argv[1]) as store, store.lease([diff_id(data)]), store.scratch() as scratch:
    ingest(store, data)
    open(scratch + "/more", "wb").write(data)
    print("stored", flush=True)
    time.sleep(60)
"""


def test_what_a_living_import_has_stays_and_what_a_killed_one_left_goes(
    own: Cli, tmp_path: Path
) -> None:
    (tmp_path / "tar").write_bytes(other := tar(file("other", os.urandom(50_000))))
    importing = python(HOLD, own.root, tmp_path / "tar")
    assert importing.stdout is not None
    assert importing.stdout.readline() == b"stored\n"
    assert own.json("gc")["removed"] == []
    importing.kill()
    importing.communicate()
    told = own("gc", "--dry-run").splitlines()
    assert sorted(line.split()[2] for line in told[:-1]) == ["layer", "temporary", "temporary"]
    assert str(diff_id(other)) in "".join(told)
    assert len(list((own.root / "tmp").iterdir())) == 2
    assert own("gc").replace("removed", "would remove").splitlines()[:-1] == told[:-1]
    assert told[-1].startswith("would free 1")  # 50 kB twice, and directories
    assert list((own.root / "tmp").iterdir()) == list((own.root / "locks").iterdir()) == []
    assert own("gc") == "freed 0B\n"
    assert [one["names"] for one in own.json("image", "ls")] == [["a:latest"]]


def test_blobs_go_and_the_layer_is_still_exported_as_it_came(own: Cli, tmp_path: Path) -> None:
    (blob,) = (own.root / "blobs/sha256").iterdir()
    size = blob.stat().st_blocks * 512
    assert own.json("gc") == {"dry_run": False, "removed": [], "freed": 0, "failed": []}
    removed = own.json("gc", "--blobs")
    assert removed["removed"] == [{"kind": "blob", "name": f"sha256:{blob.name}", "size": size}]
    assert removed["freed"] == size
    assert not blob.exists()
    own("image", "export", "a", f"docker-archive:{tmp_path}/a.tar")
    assert BIG in (tmp_path / "a.tar").read_bytes()


def test_of_no_store_there_is_nothing_to_remove(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "none")
    assert cli("gc") == "freed 0B\n"
    assert not cli.root.exists()


def test_a_layer_that_is_mounted_stays(own: Cli, target: Path) -> None:
    """Even if the store has lost the image meanwhile."""
    own("mount", "--image", "a", str(target))
    try:
        with closing(sqlite3.connect(own.root / "store.db")) as database:
            database.execute("DELETE FROM image_layers")
            database.execute("DELETE FROM images")
            database.commit()
        removed = own.json("gc")["removed"]
        assert [one["kind"] for one in removed] == ["index"]  # the mount has it open
        assert len((target / "big").read_bytes()) == 100_000
    finally:
        own("umount", str(target))
    deadline = time.monotonic() + 10  # the daemon is leaving
    while not (removed := own.json("gc")["removed"]):
        assert time.monotonic() < deadline
    assert [one["kind"] for one in removed] == ["layer", "blob"]
