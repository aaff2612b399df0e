"""docker save archives, before and since version 25."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.support.images import Layout, config, docker25, docker_archive, named, to_json
from tests.support.stores import diff_id
from tests.support.tars import dir_, file, hardlink, symlink, tar
from unionfs.digest import Digest
from unionfs.image.importer import import_image
from unionfs.image.layout import AmbiguousSourceError
from unionfs.image.plan import NoSuchImageError, NotAnImageError
from unionfs.store.store import Store

ONE = tar(dir_("./"), file("one", b"1"))
TWO = tar(dir_("./"), file("two", b"2"))


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(str(tmp_path / "store")) as opened:
        yield opened


@pytest.mark.parametrize("compressed", [False, True])
def test_the_old_form_with_links_between_equal_layers(
    store: Store, tmp_path: Path, compressed: bool
):
    path = tmp_path / "a.tar"
    data = docker_archive([ONE, TWO, ONE], ["demo:1", "registry.example/x/demo:1"])
    path.write_bytes(gzip.compress(data) if compressed else data)
    for source in (f"docker-archive:{path}", str(path), f"{path}:demo:1"):
        image = import_image(store, source)
        assert image.names == ("demo:1", "registry.example/x/demo:1")
        assert image.diff_ids == (diff_id(ONE), diff_id(TWO), diff_id(ONE))
        assert image.id == Digest.of(image.config_blob)
        assert image.manifest_digest is None
    assert sorted(
        p.name for layer in store.images.stack(image.id) for p in Path(layer).iterdir()
    ) == [
        "one",
        "two",
    ]


def test_several_images_in_one_archive(store: Store, tmp_path: Path):
    documents = [to_json(config([ONE])), to_json(config([TWO]))]
    entries = [
        {"Config": "a.json", "RepoTags": ["team/a:1"], "Layers": ["a.tar"]},
        {"Config": "b.json", "RepoTags": None, "Layers": ["sub/b.tar"]},
    ]
    members = [file("./a.json", documents[0]), file("b.json", documents[1]), file("a.tar", ONE)]
    members += [file("x", TWO), symlink("sub/b.tar", "../link"), hardlink("link", "x")]
    path = tmp_path / "images.tar"
    path.write_bytes(tar(*members, file("manifest.json", to_json(entries))))
    with pytest.raises(AmbiguousSourceError, match=r"team/a:1, b.json"):
        import_image(store, str(path))
    for reference in ("team/a:1", "a:1"):
        assert import_image(store, f"{path}:{reference}").diff_ids == (diff_id(ONE),)
    with pytest.raises(NoSuchImageError, match="'c'"):
        import_image(store, f"{path}:c")
    path.write_bytes(tar(*members, file("manifest.json", to_json(entries[1:]))))
    image = import_image(store, str(path))
    assert (image.diff_ids, image.names) == ((diff_id(TWO),), ("images:latest",))


def test_another_platform(store: Store, tmp_path: Path):
    document = to_json(config([ONE], architecture="s390x"))
    entry = {"Config": "a.json", "RepoTags": [], "Layers": ["a.tar"]}
    members = [file("a.json", document), file("a.tar", ONE)]
    path = tmp_path / "a.tar"
    path.write_bytes(tar(*members, file("manifest.json", to_json([entry]))))
    with pytest.raises(NoSuchImageError, match="there is linux/s390x"):
        import_image(store, str(path))
    assert import_image(store, str(path), platform="linux/s390x").architecture == "s390x"


def test_the_new_form_is_read_as_a_layout(store: Store, tmp_path: Path):
    layout = Layout(tmp_path / "layout")
    made = layout.image([ONE, TWO])
    layout.index(made)
    path = docker25(layout, tmp_path / "a.tar", ["debian:12"])
    for source in (f"docker-archive:{path}", str(path), f"{path}:debian:12", f"{path}:12"):
        image = import_image(store, source)
        assert image.names == ("docker.io/library/debian:12",)
        assert image.manifest_digest == Digest.parse(made["digest"])
    assert store.images.resolve("debian:12").id == image.id


def test_the_new_form_without_its_index(store: Store, tmp_path: Path):
    layout = Layout(tmp_path / "layout")
    layout.index(layout.image([ONE, TWO], **named("x")))
    docker25(layout, tmp_path / "a.tar", ["debian:12"])
    (layout.path / "index.json").unlink()
    path = layout.archive(tmp_path / "b.tar")
    assert import_image(store, str(path)).names == ("debian:12",)
    manifest = json.loads((layout.path / "manifest.json").read_bytes())
    blob = layout.path / manifest[0]["Layers"][1]
    store.images.remove([found.id for found in store.images.list()])
    blob.write_bytes(blob.read_bytes() + b"x")
    path = layout.archive(tmp_path / "c.tar")
    from unionfs.tarball.verify import BlobMismatchError

    with pytest.raises(BlobMismatchError, match=blob.name):
        import_image(store, str(path))


def test_what_is_no_archive_of_docker(store: Store, tmp_path: Path):
    path = tmp_path / "a.tar"
    path.write_bytes(ONE)
    with pytest.raises(NotAnImageError, match=r"no manifest.json"):
        import_image(store, f"docker-archive:{path}")
    with pytest.raises(NotAnImageError, match="is a directory"):
        import_image(store, f"docker-archive:{tmp_path}")
    path.write_bytes(tar(file("manifest.json", b"[]")))
    with pytest.raises(NoSuchImageError, match="no image"):
        import_image(store, str(path))
