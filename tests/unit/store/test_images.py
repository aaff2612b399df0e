"""Images: names, references, what keeps them, what they are mounted from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.stores import add_image, diff_id, ingest, new_image
from tests.support.tars import dir_, file, opaque, tar
from unionfs.digest import Digest
from unionfs.errors import NotFoundError
from unionfs.store.images import ImageInUseError
from unionfs.store.layers import MissingLayerError
from unionfs.store.names import BadNameError
from unionfs.store.parts import AmbiguousError
from unionfs.store.records import chain_id
from unionfs.store.store import Store

ROOT = dir_("./")
A, B, C = (tar(ROOT, file(name, name.encode())) for name in ("a", "bb", "ccc"))


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(str(tmp_path / "store")) as opened:
        yield opened


def test_an_image_is_recorded_as_its_config_says(store: Store):
    image = add_image(
        store, A, B, names=["demo", "demo:2"], history=[{"created_by": "x"}], created="2020"
    )
    assert image.id == Digest.of(image.config_blob)
    assert image.names == ("demo:2", "demo:latest")
    assert image.diff_ids == (diff_id(A), diff_id(B))
    assert image.size == 3
    assert image.run_config["Cmd"] == ["/bin/sh"]
    assert image.history == ({"created_by": "x"},)
    assert image.manifest_digest is None
    assert store.images.list() == [image]
    assert store.images.get(image.id) == image
    assert store.layers.get(diff_id(A)).images == (image.id,)


def test_an_image_without_a_run_config(store: Store):
    assert add_image(store, A, config=None).run_config == {}


def test_images_are_found_by_name_and_id(store: Store):
    image = add_image(store, A, names=["localhost/team/demo:1", "plain"])
    other = add_image(store, B, names=["localhost/other"])
    for text in ("localhost/team/demo:1", "demo:1", "team/demo:1", "plain", "plain:latest"):
        assert store.images.resolve(text).id == image.id
    for text in (str(image.id), image.id.hex, image.id.hex[:12], f"sha256:{image.id.short}"):
        assert store.images.resolve(text).id == image.id
    assert store.images.resolve("other").id == other.id
    for text in ("demo", "lain", "", "*", "../x", "Plain", "team", "demo:1 "):
        with pytest.raises(NotFoundError, match="no such image"):
            store.images.resolve(text)


def test_a_name_comes_before_the_beginning_of_an_id(store: Store):
    image = add_image(store, A)
    other = add_image(store, B, names=[image.id.short])
    assert store.images.resolve(image.id.short).id == other.id


def test_an_ambiguous_short_name_is_refused(store: Store):
    add_image(store, A, names=["one/demo"])
    add_image(store, B, names=["two/demo"])
    with pytest.raises(AmbiguousError, match="several images"):
        store.images.resolve("demo")


def test_a_name_moves_to_the_newer_image(store: Store):
    old = add_image(store, A, names=["demo"])
    new = add_image(store, B, names=["demo"])
    assert store.images.resolve("demo").id == new.id
    assert store.images.get(old.id).names == ()


def test_an_image_that_is_there_gets_the_names_and_the_manifest(store: Store):
    add_image(store, A, names=["one"])
    with store.lease([diff_id(A)]):
        fresh = new_image([A])
        with_manifest = type(fresh)(
            fresh.id, fresh.config, fresh.diff_ids, fresh.architecture, fresh.os, manifest=b"{}"
        )
        image = store.images.add(with_manifest, ["two"])
    assert image.names == ("one:latest", "two:latest")
    assert (image.manifest_digest, image.manifest_blob) == (Digest.of(b"{}"), b"{}")
    assert add_image(store, A).manifest_blob == b"{}"
    assert len(store.images.list()) == 1


def test_a_bad_name_adds_nothing(store: Store):
    with pytest.raises(BadNameError):
        add_image(store, A, names=["fine", "../evil"])
    assert store.images.list() == []
    assert store.layers.list() == []


def test_an_image_needs_its_layers(store: Store):
    with store.lease(), pytest.raises(MissingLayerError, match=str(diff_id(B))):
        ingest(store, A)
        store.images.add(new_image([A, B]))
    assert store.images.list() == []


def test_an_image_in_use_stays_and_its_users_are_named(store: Store):
    image = add_image(store, A, names=["demo"])
    other = add_image(store, B)
    store.containers.create(image, "zoe")
    store.containers.create(image, "adam")
    with pytest.raises(ImageInUseError, match=r"demo:latest is used by containers adam, zoe"):
        store.images.remove([other.id, image.id])
    assert len(store.images.list()) == 2  # all or none
    assert store.layers.has(diff_id(A))


def test_a_layer_goes_with_its_last_image(store: Store):
    one, two = add_image(store, A, B), add_image(store, A, C)
    assert store.images.remove([one.id]) == (diff_id(B),)
    assert store.images.stack(two.id) == [store.layers.path(diff_id(x)) for x in (C, A)]
    assert set(store.images.remove([two.id])) == {diff_id(A), diff_id(C)}
    assert store.layers.list() == []
    assert os.listdir(Path(store.root) / "layers" / "sha256") == []
    with pytest.raises(NotFoundError):
        store.images.remove([two.id])


def test_a_layer_that_occurs_twice_is_mounted_once_at_its_topmost_place(store: Store):
    image = add_image(store, A, B, A)
    assert store.images.stack(image.id) == [store.layers.path(diff_id(x)) for x in (A, B)]
    assert image.size == 3


def test_a_stack_ends_at_an_opaque_root(store: Store):
    top = tar(ROOT, opaque(""), file("only"))
    image = add_image(store, A, B, top)
    assert store.images.stack(image.id) == [store.layers.path(diff_id(top))]


def test_an_image_without_layers_has_an_empty_root(store: Store):
    image = add_image(store)
    [root] = store.images.stack(image.id)
    assert os.listdir(root) == []
    assert image.chain_id is None
    store.containers.create(image)


def test_a_missing_layer_directory_is_named(store: Store):
    image = add_image(store, A, B)
    path = Path(store.layers.path(diff_id(A)))
    path.rename(path.parent / "elsewhere")
    with pytest.raises(MissingLayerError, match=rf"{diff_id(A)}.*{path}"):
        store.images.stack(image.id)
    with pytest.raises(MissingLayerError):
        store.containers.create(image)
    assert store.containers.list() == []


def test_chain_ids_are_those_of_the_specification():
    one, two = Digest.of(b"1"), Digest.of(b"2")
    assert chain_id([]) is None
    assert chain_id([one]) == one
    assert chain_id([one, two]) == Digest.of(f"{one} {two}".encode())
