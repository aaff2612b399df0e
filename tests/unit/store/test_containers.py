"""Containers: their directories, names, beginnings and ends."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.support import kernel
from tests.support.stores import add_image
from tests.support.tars import dir_, file, tar
from unionfs.errors import NotFoundError
from unionfs.store.containers import Containers, NameTakenError
from unionfs.store.database import DatabaseUnavailableError
from unionfs.store.names import BadNameError
from unionfs.store.parts import AmbiguousError, StoreFailedError
from unionfs.store.store import Store

LAYER = tar(dir_("./", mode=0o1751, mtime=1234567890), file("a"))


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(str(tmp_path / "store")) as opened:
        yield opened


def test_a_container_is_an_empty_upper_that_looks_like_the_images_root(store: Store):
    container = store.containers.create(add_image(store, LAYER))
    home = Path(store.containers.path(container.id))
    assert sorted(os.listdir(home)) == ["merged", "upper", "work"]
    assert [os.listdir(home / name) for name in ("merged", "upper", "work")] == [[], [], []]
    st = (home / "upper").stat()
    assert (stat.S_IMODE(st.st_mode), st.st_mtime) == (0o1751, 1234567890)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "work").stat().st_mode) == 0o700


@pytest.mark.needs_root
def test_owner_and_attributes_of_the_root_are_taken_and_the_drivers_marks_are_not(store: Store):
    root = dir_("./", uid=12, gid=34, xattrs={"user.note": b"x"})
    image = add_image(store, tar(root, file("a")))
    os.setxattr(store.images.stack(image.id)[0], store.flavour.impure, b"y")
    container = store.containers.create(image)
    upper = os.path.join(store.containers.path(container.id), "upper")
    assert (os.stat(upper).st_uid, os.stat(upper).st_gid) == (12, 34)
    assert os.listxattr(upper) == ["user.note"]


def test_containers_are_found_by_name_and_id(store: Store):
    image = add_image(store, LAYER)
    container = store.containers.create(image, "web.1")
    for text in ("web.1", container.id, container.id[:12], container.id[:6]):
        assert store.containers.resolve(text) == container
    for text in ("web", "", "*", "WEB.1", container.id + "0", "sha256:" + container.id):
        with pytest.raises(NotFoundError, match="no such container"):
            store.containers.resolve(text)
    assert container.short == container.id[:12]


def test_an_exact_id_comes_before_a_name(store: Store):
    image = add_image(store, LAYER)
    container = store.containers.create(image)
    store.containers.create(image, container.id)
    assert store.containers.resolve(container.id) == container


def test_an_ambiguous_beginning_is_refused(store: Store):
    image = add_image(store, LAYER)
    ids = [store.containers.create(image).id for _ in range(17)]
    digit = next(c for c in "0123456789abcdef" if sum(i[0] == c for i in ids) > 1)
    with pytest.raises(AmbiguousError, match="several container IDs"):
        store.containers.resolve(digit)


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "a/b", "-x", "ä", "a b", "x" * 129, "a\n"])
def test_names_that_would_be_paths_or_options_are_refused(store: Store, name: str):
    with pytest.raises(BadNameError):
        store.containers.create(add_image(store, LAYER), name)
    assert os.listdir(Path(store.root) / "containers") == []


def test_a_name_is_given_once(store: Store):
    image = add_image(store, LAYER)
    first = store.containers.create(image, "web")
    with pytest.raises(NameTakenError, match="'web'"):
        store.containers.create(image, "web")
    assert [found.id for found in store.containers.list()] == [first.id]
    assert os.listdir(Path(store.root) / "containers") == [first.id]


def test_names_are_given_until_they_run_out(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("unionfs.store.containers.random_container_name", lambda: "only_one")
    image = add_image(store, LAYER)
    assert store.containers.create(image).name == "only_one"
    other = store.containers.create(image)
    assert other.name == f"container_{other.short}"


def test_a_container_needs_its_image(store: Store):
    image = add_image(store, LAYER)
    store.images.remove([image.id])
    with pytest.raises(NotFoundError, match="no such image"):
        store.containers.create(image)
    assert os.listdir(Path(store.root) / "containers") == []


def test_removing_discards_the_upper_and_nothing_else(store: Store):
    image = add_image(store, LAYER)
    container, other = store.containers.create(image), store.containers.create(image)
    upper = Path(store.containers.path(container.id)) / "upper"
    deep = upper
    for _ in range(60):
        deep /= "d" * 60
    os.makedirs(deep)
    os.chmod(deep, 0)
    store.containers.remove(container.id)
    assert store.containers.list() == [other]
    assert os.listdir(Path(store.root) / "containers") == [other.id]
    assert os.listdir(Path(store.root) / "tmp") == []
    with pytest.raises(NotFoundError):
        store.containers.remove(container.id)


@pytest.mark.needs_root
def test_what_is_still_mounted_in_a_container_survives_its_removal(store: Store, tmp_path: Path):
    container = store.containers.create(add_image(store, LAYER))
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    inside = Path(store.containers.path(container.id)) / "merged" / "deep"
    inside.mkdir()
    kernel.mount(os.fsencode(precious), os.fsencode(inside), b"none", 4096)  # MS_BIND
    try:
        with pytest.raises(StoreFailedError, match="removing container"):
            store.containers.remove(container.id)
        assert (precious / "file").exists()
    finally:
        [where] = (Path(store.root) / "tmp").glob("*/merged/deep")
        kernel.umount(os.fsencode(where))
    with store.lease():
        assert len(os.listdir(Path(store.root) / "tmp")) == 1  # the lease's own


def _inserted_and_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    insert = Containers._insert

    def failing(*words: object) -> None:
        insert(*words)
        raise DatabaseUnavailableError("store.db: disk I/O error")

    monkeypatch.setattr(Containers, "_insert", failing)


def test_a_commit_that_failed_in_its_last_step_is_taken_back(store: Store, monkeypatch):
    """SQLite said that it failed, and the next reader finds the container."""
    image = add_image(store, LAYER)
    _inserted_and_failed(monkeypatch)
    with pytest.raises(DatabaseUnavailableError):
        store.containers.create(image)
    assert store.containers.list() == []
    assert os.listdir(Path(store.containers.path("0")).parent) == []


def test_a_container_that_may_be_listed_keeps_its_directory(store: Store, monkeypatch):
    image = add_image(store, LAYER)
    _inserted_and_failed(monkeypatch)
    monkeypatch.setattr(Containers, "_is_unlisted", lambda *_: False)
    with pytest.raises(DatabaseUnavailableError):
        store.containers.create(image)
    (container,) = store.containers.list()
    assert sorted(os.listdir(store.containers.path(container.id))) == ["merged", "upper", "work"]
