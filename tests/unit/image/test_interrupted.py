"""Imports that end early or meet each other: nothing half-made, nothing to clean by hand."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.support import kernel
from tests.support.images import Layout
from tests.support.stores import diff_id, everything, finish, python
from tests.support.tars import dir_, file, tar
from unionfs.errors import CorruptError
from unionfs.image import side_by_side
from unionfs.image.importer import import_image
from unionfs.image.side_by_side import Stop, Stopped, run_all
from unionfs.store.parts import StoreFullError
from unionfs.store.store import Store

IMPORT = """
import sys
from unionfs.store.store import Store
from unionfs.image import side_by_side
from unionfs.image.importer import import_image
with Store.open(sys.argv[1]) as store:
    print("open", flush=True)
    print(import_image(store, sys.argv[2]).id)
"""


def layers(count: int, files: int, seed: int = 7, size: int = 3000) -> list[bytes]:
    noise = random.Random(seed)
    return [
        tar(
            dir_("./"),
            *(file(f"l{layer}/f{number}", noise.randbytes(size)) for number in range(files)),
        )
        for layer in range(count)
    ]


def image(path: Path, tars: list[bytes]) -> Path:
    layout = Layout(path)
    layout.index(layout.image(tars))
    return path


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(str(tmp_path / "store")) as opened:
        yield opened


def check_whole(store: Store, source: Path, tars: list[bytes]) -> None:
    """Import again, with nothing cleaned before; the store then holds that image and no more."""
    made = import_image(store, str(source))
    assert [path.rpartition("/sha256/")[2] for path in store.images.stack(made.id)] == [
        f"{diff_id(one).hex}/diff" for one in reversed(tars)
    ]
    for path, one in zip(store.images.stack(made.id), reversed(tars), strict=True):
        assert len(os.listdir(Path(path, os.listdir(path)[0]))) == one.count(b"ustar") - 1
    assert len(store.layers.list()) == len(tars)
    assert os.listdir(Path(store.root) / "tmp") == []
    assert sorted(os.listdir(Path(store.root) / "layers" / "sha256")) == sorted(
        diff_id(one).hex for one in tars
    )


def test_an_import_that_is_killed_at_any_moment_is_run_again(store: Store, tmp_path: Path):
    tars = layers(4, 150)
    source = image(tmp_path / "image", tars)
    started = time.monotonic()
    whole = python(IMPORT, tmp_path / "other", source)
    assert whole.stdout is not None
    whole.stdout.readline()
    opened = time.monotonic()
    finish(whole)
    length = time.monotonic() - opened
    assert opened > started
    for part in (0.02, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9):
        process = python(IMPORT, store.root, source)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(length * part)
        process.kill()
        process.communicate()
        assert process.returncode in (0, -signal.SIGKILL)
    check_whole(store, source, tars)


def test_two_imports_of_one_image_at_once(store: Store, tmp_path: Path):
    tars = layers(3, 60)
    source = image(tmp_path / "image", tars)
    processes = [python(IMPORT, store.root, source) for _ in range(3)]
    assert len({finish(process) for process in processes}) == 1
    check_whole(store, source, tars)


def test_imports_of_images_that_share_layers_while_one_is_removed(store: Store, tmp_path: Path):
    shared, mine, yours = layers(3, 40)
    one = image(tmp_path / "one", [shared, mine])
    two = image(tmp_path / "two", [shared, yours])
    for _ in range(4):
        made = import_image(store, str(one))
        process = python(IMPORT, store.root, two)
        store.images.remove([made.id])
        finish(process)
        [left] = store.images.list()
        assert len(store.images.stack(left.id)) == 2
        assert {layer.diff_id for layer in store.layers.list()} == {diff_id(shared), diff_id(yours)}
        store.images.remove([left.id])
    assert store.layers.list() == []


def test_one_wrong_layer_undoes_the_others(store: Store, tmp_path: Path):
    before = everything(Path(store.root))
    tars = layers(3, 30)
    layout = Layout(tmp_path / "image")
    wrong = layout.layer(tars[0][:-3000])
    layout.index(layout.image(tars, layers=[layout.layer(tars[0]), layout.layer(tars[1]), wrong]))
    with pytest.raises(CorruptError, match=str(diff_id(tars[2]))):
        import_image(store, str(layout.path))
    assert everything(Path(store.root)) == before
    assert store.layers.list() == []


def test_an_interrupt_from_the_keyboard_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(side_by_side, "_GRACE", 60.0)  # however busy the machine is
    before = everything(Path(store.root))
    source = image(tmp_path / "image", layers(2, 300))

    class Impatient:
        pressed = False

        def layer_started(self, layer, total):
            pass

        def advanced(self, layer, count):
            if not self.pressed:  # a second one would end the clean-up, and then the test run
                self.pressed = True
                signal.raise_signal(signal.SIGINT)

        def layer_done(self, layer, *, stored_before):
            pass

    with pytest.raises(KeyboardInterrupt):
        import_image(store, str(source), progress=Impatient())
    assert everything(Path(store.root)) == before
    assert store.images.list() == []


@pytest.mark.needs_root
def test_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path):
    small, large = layers(1, 10), layers(3, 400)
    first, second = image(tmp_path / "first", small), image(tmp_path / "second", large)
    disk = tmp_path / "disk"
    disk.mkdir()
    kernel.mount(b"tmpfs", os.fsencode(disk), b"tmpfs", 0, b"size=4m,mode=700")
    try:
        with Store.open(str(disk / "store")) as store:
            made = import_image(store, str(first))
            before = everything(Path(store.root))
            with pytest.raises(StoreFullError, match=f"no space left in the store at {disk}"):
                import_image(store, str(second))
            assert everything(Path(store.root)) == before
            assert [found.id for found in store.images.list()] == [made.id]
            assert [found.diff_id for found in store.layers.list()] == list(made.diff_ids)
            store.containers.create(made)
    finally:
        kernel.umount(os.fsencode(disk))


@pytest.mark.needs_root
def test_a_disk_too_small_for_a_spooled_archive(tmp_path: Path):
    import gzip

    layout = Layout(tmp_path / "image")
    layout.index(layout.image(layers(1, 2500), suffix=""))
    archive = layout.archive(tmp_path / "a.tar")
    archive.write_bytes(gzip.compress(archive.read_bytes(), 1))
    disk = tmp_path / "disk"
    disk.mkdir()
    kernel.mount(b"tmpfs", os.fsencode(disk), b"tmpfs", 0, b"size=4m,mode=700")
    try:
        with Store.open(str(disk / "store")) as store:
            before = everything(Path(store.root))
            with pytest.raises(StoreFullError, match="no space left"):
                import_image(store, str(archive))
            assert everything(Path(store.root)) == before
    finally:
        kernel.umount(os.fsencode(disk))


def test_jobs_run_two_at_a_time_and_all():
    together, most, done = [0], [0], []
    lock = threading.Lock()

    def job(number: int) -> None:
        with lock:
            together[0] += 1
            most[0] = max(most[0], together[0])
        time.sleep(0.02)
        with lock:
            together[0] -= 1
            done.append(number)

    run_all([lambda number=number: job(number) for number in range(5)], Stop())
    assert sorted(done) == list(range(5))
    assert most == [2]
    run_all([], Stop())


def test_the_first_failure_stops_the_others():
    stop, ended = Stop(), []

    def patient() -> None:
        try:
            for _ in range(2000):
                stop.check()
                time.sleep(0.005)
        except Stopped:
            ended.append("told")
            raise

    def failing() -> None:
        time.sleep(0.02)
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        run_all([patient, failing, lambda: ended.append("started")], stop)
    assert ended == ["told"]
