"""OCI layouts: what is imported, which image of several, which platform."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.images import (
    CONFIG,
    INDEX,
    LAYER,
    MACHINE,
    MANIFEST,
    OCI,
    Layout,
    config,
    named,
    on,
    sha256,
    to_json,
)
from tests.support.stores import diff_id
from tests.support.tars import dir_, file, tar
from unionfs.digest import Digest
from unionfs.errors import ConflictError
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


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "debian")


@pytest.mark.parametrize("suffix", ["", "+gzip", "+zstd"])
@pytest.mark.parametrize("form", ["directory", "archive", "compressed"])
def test_every_form_and_compression(
    store: Store, layout: Layout, tmp_path: Path, suffix: str, form: str
):
    made = layout.image([ONE, TWO], suffix=suffix)
    layout.index(made)
    path = layout.path
    if form != "directory":
        path = layout.archive(tmp_path / "debian.tar")
    if form == "compressed":
        import gzip

        path.write_bytes(gzip.compress(path.read_bytes()))
    for source in (f"oci{'' if form == 'directory' else '-archive'}:{path}", str(path)):
        image = import_image(store, source)
        assert image.names == ("debian:latest",)
        assert image.diff_ids == (diff_id(ONE), diff_id(TWO))
        assert image.manifest_digest == Digest.parse(made["digest"])
        assert image.manifest_blob == layout.blob_path(made["digest"]).read_bytes()
        top, bottom = (Path(found) for found in store.images.stack(image.id))
        assert (top / "two").read_bytes() == b"2"
        assert (bottom / "one").read_bytes() == b"1"


def test_docker_media_types(store: Store, layout: Layout):
    docker = "application/vnd.docker."
    blob = layout.layer(ONE)
    manifest_type = docker + "distribution.manifest.v2+json"
    manifest = {
        "mediaType": manifest_type,
        "config": layout.document(config([ONE]), docker + "container.image.v1+json"),
        "layers": [{**blob, "mediaType": docker + "image.rootfs.diff.tar.gzip"}],
    }
    made = layout.document(manifest, manifest_type, **on(MACHINE))
    list_type = docker + "distribution.manifest.list.v2+json"
    layout.index(layout.document({"manifests": [made]}, list_type))
    assert import_image(store, str(layout.path)).diff_ids == (diff_id(ONE),)


def test_the_reference_chooses(store: Store, layout: Layout):
    one = layout.image([ONE], **named("one"))
    two = layout.image([TWO], **named("registry.example/team/two:3"))
    layout.index(one, two)
    assert import_image(store, f"oci:{layout.path}:one").names == ("debian:one",)
    for reference in ("registry.example/team/two:3", "two:3", two["digest"]):
        image = import_image(store, f"oci:{layout.path}:{reference}")
        assert image.diff_ids == (diff_id(TWO),)
        assert image.names == ("registry.example/team/two:3",)
    with pytest.raises(AmbiguousSourceError, match=r"one, registry.example/team/two:3"):
        import_image(store, f"oci:{layout.path}")
    with pytest.raises(NoSuchImageError, match="no image 'three' there; there is one, reg"):
        import_image(store, f"oci:{layout.path}:three")


def test_two_names_of_one_image_are_both_kept(store: Store, layout: Layout):
    made = layout.image([ONE])
    layout.index({**made, **named("1.0")}, {**made, **named("latest")})
    assert import_image(store, str(layout.path)).names == ("debian:1.0", "debian:latest")
    assert import_image(store, str(layout.path), name="other:x").names == (
        "debian:1.0",
        "debian:latest",
        "other:x",
    )


def test_our_platform_is_taken_and_another_on_demand(store: Store, layout: Layout):
    ours, theirs = layout.image([ONE], **on(MACHINE)), layout.image([TWO], **on("s390x"))
    windows = layout.image([TWO], **on(MACHINE, system="windows"))
    attestation = layout.image([TWO], **on("unknown", system="unknown"))
    layout.index(layout.nested(theirs, windows, attestation, ours))
    assert import_image(store, str(layout.path)).diff_ids == (diff_id(ONE),)
    assert import_image(store, str(layout.path), platform="s390x").diff_ids == (diff_id(TWO),)
    with pytest.raises(NoSuchImageError, match=r"no image for linux/riscv64 .* linux/s390x"):
        import_image(store, str(layout.path), platform="linux/riscv64")


def test_the_config_says_the_platform_where_the_index_does_not(store: Store, layout: Layout):
    layout.index(layout.image([ONE], document=config([ONE], architecture="s390x")))
    with pytest.raises(NoSuchImageError, match=f"linux/{MACHINE} there; there is linux/s390x"):
        import_image(store, str(layout.path))
    assert import_image(store, str(layout.path), platform="s390x").architecture == "s390x"


def test_indexes_in_indexes_and_artifacts_beside(store: Store, layout: Layout):
    artifact = layout.document(
        {"config": layout.document({}, "application/vnd.oci.empty.v1+json"), "layers": []}, MANIFEST
    )
    signature = layout.image(
        [TWO], annotations={"vnd.docker.reference.type": "attestation-manifest"}
    )
    deep = layout.nested(artifact, signature, layout.nested(layout.nested(layout.image([ONE]))))
    layout.index(deep, artifact)
    assert import_image(store, str(layout.path)).diff_ids == (diff_id(ONE),)


def test_two_images_without_names_are_ambiguous(store: Store, layout: Layout):
    one, two = layout.image([ONE]), layout.image([TWO])
    layout.index(one, two)
    with pytest.raises(AmbiguousSourceError, match=one["digest"]) as caught:
        import_image(store, str(layout.path))
    assert isinstance(caught.value, ConflictError)
    assert import_image(store, f"oci:{layout.path}:{two['digest']}").diff_ids == (diff_id(TWO),)


def test_stored_layers_are_not_read_again(store: Store, layout: Layout):
    blobs = [layout.layer(ONE), layout.layer(TWO)]
    layout.index(layout.image([ONE, TWO], layers=blobs, **named("full")))
    import_image(store, str(layout.path))
    other = layout.image([ONE, TWO], layers=blobs, document=config([ONE, TWO], author="x"))
    layout.index(other)
    for blob in blobs:
        layout.blob_path(blob["digest"]).unlink()
    done: list[tuple[Digest, bool]] = []

    class Watch:
        def layer_started(self, layer, total):
            raise AssertionError("read a stored layer")

        def advanced(self, layer, count):
            raise AssertionError("read a stored layer")

        def layer_done(self, layer, *, stored_before):
            done.append((layer, stored_before))

    image = import_image(store, str(layout.path), progress=Watch())
    assert image.config["author"] == "x"
    assert done == [(diff_id(ONE), True), (diff_id(TWO), True)]


def test_progress_adds_up_to_the_size_of_the_blobs(store: Store, layout: Layout):
    big = tar(*(file(f"f{number}", b"%d" % number * 50000) for number in range(20)))
    blobs = [layout.layer(big, "+zstd"), layout.layer(ONE, "")]
    layout.index(layout.image([big, ONE], layers=blobs))
    total, seen = {}, {}

    class Watch:
        def layer_started(self, layer, size):
            total[layer] = size

        def advanced(self, layer, count):
            seen[layer] = seen.get(layer, 0) + count

        def layer_done(self, layer, *, stored_before):
            assert not stored_before

    import_image(store, str(layout.path), progress=Watch())
    assert total == {diff_id(big): blobs[0]["size"], diff_id(ONE): blobs[1]["size"]}
    assert seen == total


def test_a_foreign_layer_is_taken_where_its_blob_is_there(store: Store, layout: Layout):
    foreign = {**layout.layer(ONE), "mediaType": OCI + "layer.nondistributable.v1.tar+gzip"}
    layout.index(layout.image([ONE], layers=[foreign]))
    assert import_image(store, str(layout.path)).diff_ids == (diff_id(ONE),)


def test_sha512_descriptors(store: Store, layout: Layout):
    import hashlib

    blob = layout.layer(ONE)
    data = layout.blob_path(blob["digest"]).read_bytes()
    digest = hashlib.sha512(data).hexdigest()
    (layout.path / "blobs" / "sha512").mkdir()
    (layout.path / "blobs" / "sha512" / digest).write_bytes(data)
    layout.index(layout.image([ONE], layers=[{**blob, "digest": "sha512:" + digest}]))
    assert import_image(store, str(layout.path)).diff_ids == (diff_id(ONE),)


@pytest.mark.parametrize("version", ["2.0.0", ""])
def test_a_layout_of_an_unknown_version(store: Store, layout: Layout, version: str):
    layout.index(layout.image([ONE]))
    (layout.path / "oci-layout").write_bytes(to_json({"imageLayoutVersion": version}))
    with pytest.raises(NotAnImageError, match="unknown version"):
        import_image(store, f"oci:{layout.path}")


def test_what_is_no_layout(store: Store, tmp_path: Path):
    with pytest.raises(NotAnImageError, match=r"no oci-layout and index.json"):
        import_image(store, f"oci:{tmp_path}")


def test_an_image_without_layers(store: Store, layout: Layout):
    layout.index(layout.image([]))
    assert import_image(store, str(layout.path)).diff_ids == ()


def test_constants_are_those_of_the_specification():
    from unionfs.image import manifest

    assert (manifest.OCI_INDEX, manifest.OCI_MANIFEST) == (INDEX, MANIFEST)
    assert (manifest.OCI_CONFIG, manifest.OCI_LAYER) == (CONFIG, LAYER)
    assert json.loads(to_json({"a": sha256(b"")}))["a"].startswith("sha256:e3b0c442")
