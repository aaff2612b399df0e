"""A commit whose second half, putting the container on the image, cannot be done."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.support.stores import add_image
from tests.support.tars import dir_, file, tar
from unionfs.container.commit import NotRebasedError, Wanted, commit
from unionfs.store.containers import Containers
from unionfs.store.records import ContainerRecord, ImageRecord
from unionfs.store.store import Store


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(str(tmp_path / "store")) as opened:
        yield opened


@pytest.fixture
def container(store: Store) -> ContainerRecord:
    """A container that has changed something."""
    made = store.containers.create(add_image(store, tar(dir_("./"), file("a", b"1"))), "c")
    (Path(store.containers.path(made.id)) / "upper/b").write_text("2")
    return made


def rebase(store: Store, container: ContainerRecord) -> ImageRecord:
    return commit(store, container, "new", Wanted(rebase=True), lambda count: None)


def full(*args: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_it_says_what_is_made_and_can_be_run_again(store, container, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Containers, "_prepare_next", full)
        with pytest.raises(
            NotRebasedError, match="is made, but container c is not on it: no space"
        ):
            rebase(store, container)
    assert store.containers.resolve("c").image_id == container.image_id
    assert os.listdir(Path(store.containers.path(container.id)) / "upper") == ["b"]
    assert rebase(store, container).id == store.containers.resolve("c").image_id


def test_a_last_step_that_failed_is_made_up_for(store, container, monkeypatch):
    whole = Containers._go_on_with_next

    def once(*args):
        monkeypatch.setattr(Containers, "_go_on_with_next", whole)
        full()

    monkeypatch.setattr(Containers, "_go_on_with_next", once)
    assert rebase(store, container).id == store.containers.resolve("c").image_id
    assert os.listdir(Path(store.containers.path(container.id)) / "upper") == []
