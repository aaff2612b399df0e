"""Images that lie: each is refused with one clear line, and the store is as it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.images import (
    CONFIG,
    INDEX,
    LAYER,
    MANIFEST,
    OCI,
    Layout,
    config,
    docker_archive,
    sha256,
    to_json,
)
from tests.support.stores import diff_id, everything
from tests.support.tars import dir_, file, symlink, tar
from unionfs.errors import CorruptError, RefusedError, UnionfsError
from unionfs.image.importer import import_image
from unionfs.store.store import Store
from unionfs.tarball.limits import Limits

ONE = tar(dir_("./"), file("one", b"1"))
TWO = tar(dir_("./"), file("two", b"2"))
Wrong = Callable[[Layout], object]


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(str(tmp_path / "store")) as opened:
        yield opened


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "image")


def refused(store: Store, source: str, **options) -> str:
    """Import *source*, which must fail in one line and leave nothing; return that line."""
    before = everything(Path(store.root))
    with pytest.raises((CorruptError, RefusedError)) as caught:
        import_image(store, source, **options)
    assert everything(Path(store.root)) == before
    assert store.images.list() == []
    assert store.layers.list() == []
    line = str(caught.value)
    assert line
    assert "\n" not in line
    assert line.isprintable()
    assert source.rpartition(":")[2] in line
    return line


def with_layer(layout: Layout, **changes) -> Layout:
    """An image of one layer whose descriptor has *changes*."""
    return layout.index(layout.image([ONE], layers=[{**layout.layer(ONE), **changes}]))


def with_config(layout: Layout, **changes) -> Layout:
    return layout.index(layout.image([ONE], document=config([ONE], **changes)))


HEX = "0" * 64
BAD_DIGESTS = [
    "sha256:../../../etc/passwd",
    "sha256:" + "A" * 64,
    "sha256:" + "0" * 63,
    "sha256:" + "0" * 65,
    "md5:" + "0" * 32,
    "sha256:" + "0" * 62 + "/x",
    HEX,
    "",
    None,
    7,
    ["sha256:" + HEX],
]


@pytest.mark.parametrize("digest", BAD_DIGESTS, ids=repr)
def test_digests_that_are_none(store: Store, layout: Layout, digest: object):
    assert "digest" in refused(store, str(with_layer(layout, digest=digest).path))
    layout.index({**layout.image([ONE]), "digest": digest})
    assert "digest" in refused(store, str(layout.path))
    with_config(layout, rootfs={"type": "layers", "diff_ids": [digest]})
    assert "digest" in refused(store, str(layout.path))


@pytest.mark.parametrize("size", [-1, 1.5, "7", None, True, 1 << 64, [1]], ids=repr)
def test_sizes_that_are_none(store: Store, layout: Layout, size: object):
    assert "size" in refused(store, str(with_layer(layout, size=size).path))
    layout.index({**layout.image([ONE]), "size": size})
    assert "size" in refused(store, str(layout.path))


@pytest.mark.parametrize("change", [-1, 1, 1 << 40])
def test_a_size_that_is_not_the_blobs(store: Store, layout: Layout, change: int):
    size = layout.layer(ONE)["size"] + change
    assert f"and not {size}" in refused(store, str(with_layer(layout, size=size).path))


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
@pytest.mark.parametrize("damage", ["longer", "shorter", "other", "missing", "link", "fifo", "dir"])
def test_a_blob_that_is_not_what_its_digest_says(
    store: Store, layout: Layout, tmp_path: Path, what: str, damage: str
):
    made = layout.image([ONE])
    layout.index(made)
    manifest = json.loads(layout.blob_path(made["digest"]).read_bytes())
    digests = {
        "manifest": made["digest"],
        "config": manifest["config"]["digest"],
        "layer": manifest["layers"][0]["digest"],
    }
    path = layout.blob_path(digests[what])
    data = path.read_bytes()
    path.unlink()
    if damage == "longer":
        path.write_bytes(data + b" ")
    elif damage == "shorter":
        path.write_bytes(data[:-1])
    elif damage == "other":
        path.write_bytes(bytes((data[0] ^ 1,)) + data[1:])
    elif damage == "link":
        (tmp_path / "elsewhere").write_bytes(data)
        path.symlink_to(tmp_path / "elsewhere")
    elif damage == "fifo":
        os.mkfifo(path)
    elif damage == "dir":
        path.mkdir()
    assert digests[what].removeprefix("sha256:") in refused(store, str(layout.path))


def test_a_linked_directory_of_blobs_is_not_followed(store: Store, layout: Layout, tmp_path: Path):
    layout.index(layout.image([ONE]))
    (layout.path / "blobs").rename(tmp_path / "blobs")
    (layout.path / "blobs").symlink_to(tmp_path / "blobs")
    refused(store, str(layout.path))


def test_a_layer_that_is_not_its_diff_id(store: Store, layout: Layout):
    layout.index(layout.image([ONE], layers=[layout.layer(TWO)]))
    assert f"content has diffID {diff_id(TWO)}" in refused(store, str(layout.path))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_layer_count_that_is_not_the_configs(store: Store, layout: Layout, count: int):
    layers = [layout.layer(ONE)] * count
    layout.index(layout.image([ONE, TWO], layers=layers))
    assert f"{count} layers in its manifest and 2" in refused(store, str(layout.path))


@pytest.mark.parametrize("extra", ["layers", "config", "Layers", "fsLayers"])
def test_an_index_that_is_a_manifest_as_well(store: Store, layout: Layout, extra: str):
    layout.index(layout.image([ONE]), **{extra: []})
    assert "could be two things" in refused(store, str(layout.path))


@pytest.mark.parametrize("extra", ["manifests", "Manifests", "fsLayers"])
def test_a_manifest_that_is_an_index_as_well(store: Store, layout: Layout, extra: str):
    layout.index(layout.image([ONE], manifest={extra: [layout.image([TWO])]}))
    assert "could be two things" in refused(store, str(layout.path))


def test_a_manifest_that_is_called_an_index(store: Store, layout: Layout):
    layout.index({**layout.image([ONE]), "mediaType": INDEX})
    assert "could be two things" in refused(store, str(layout.path))
    layout.index({**layout.nested(), "mediaType": MANIFEST})
    refused(store, str(layout.path))
    layout.index(layout.image([ONE], manifest={"mediaType": INDEX}))
    assert "calls itself" in refused(store, str(layout.path))


@pytest.mark.parametrize("again", ['"layers": []', '"Layers": []'])
def test_keys_that_other_readers_would_read_otherwise(store: Store, layout: Layout, again: str):
    made = layout.image([ONE])
    text = layout.blob_path(made["digest"]).read_text()[:-1] + f", {again}}}"
    layout.index(layout.blob(text.encode(), MANIFEST))
    line = refused(store, str(layout.path))
    assert "twice" in line or "differ in case" in line


def test_an_index_that_is_nested_too_deep(store: Store, layout: Layout):
    entry = layout.image([ONE])
    for _ in range(6):
        entry = layout.nested(entry)
    assert "nested deeper" in refused(store, str(layout.index(entry).path))


def test_an_index_of_very_many_indexes(store: Store, layout: Layout):
    entries = [
        layout.document({"manifests": [], "annotations": {"n": str(n)}}, INDEX) for n in range(1100)
    ]
    assert "more than 1000 documents" in refused(store, str(layout.index(*entries).path))


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-tar",
        "",
        LAYER + "+encrypted",
        LAYER + "+gzip+encrypted",
        OCI + "layer.squashfs",
        OCI + "layer.nondistributable.v1.tar+xz",
    ],
)
def test_layers_of_unknown_kinds(store: Store, layout: Layout, kind: str):
    assert "unknown kind" in refused(store, str(with_layer(layout, mediaType=kind).path))


def test_a_foreign_layer_that_is_not_there(store: Store, layout: Layout):
    kind = OCI + "layer.nondistributable.v1.tar+gzip"
    with_layer(layout, mediaType=kind)
    layout.blob_path(layout.layer(ONE)["digest"]).unlink()
    assert "not distributed" in refused(store, str(layout.path))


@pytest.mark.parametrize("kind", ["application/vnd.example.thing", MANIFEST + "x", ""])
def test_what_is_no_image_in_an_index(store: Store, layout: Layout, kind: str):
    layout.index(layout.blob(b"{}", kind))
    refused(store, str(layout.path))


def test_the_first_schema_is_refused_by_name(store: Store, layout: Layout):
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    layout.index(layout.blob(to_json({"schemaVersion": 1, "fsLayers": []}), kind))
    assert kind in refused(store, str(layout.path))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b"7",
        b"{",
        b'{"manifests": {}}',
        b'{"manifests": [7]}',
        b'{"manifests": NaN}',
        b'{"manifests": []} x',
        b'{"manifests": [' * 1 + b"[" * 100000 + b"]" * 100000 + b"]}",
        b'{"manifests": ' + b"1" * 5000 + b"}",
        b"\xff\xfe{\x00}\x00",
        b'{"mediaType": "\\ud800", "manifests": []}',
        b'{"a": 1, "a": 2}',
    ],
    ids=lambda text: repr(text[:24]),
)
def test_documents_that_are_none(store: Store, layout: Layout, text: bytes):
    (layout.path / "index.json").write_bytes(text)
    refused(store, str(layout.path))


def test_documents_that_are_too_long(store: Store, layout: Layout):
    layout.index(layout.image([ONE]))
    with (layout.path / "index.json").open("ab") as index:
        index.truncate(5 << 20)
    assert "longer than" in refused(store, str(layout.path))
    layout.index(layout.image([ONE], document=config([ONE], comment="x" * (5 << 20))))
    assert "longer than" in refused(store, str(layout.path))


@pytest.mark.parametrize(
    "changes",
    [
        {"rootfs": None},
        {"rootfs": {"type": "chain", "diff_ids": []}},
        {"rootfs": {"type": "layers", "diff_ids": "x"}},
        {"os": 7},
        {"architecture": ["amd64"]},
        {"created": {}},
        {"config": []},
        {"config": {"Env": "PATH=/bin"}},
        {"config": {"Env": ["A=\0"]}},
        {"config": {"Cmd": [["sh"]]}},
        {"config": {"User": 0}},
        {"config": {"WorkingDir": ["/"]}},
        {"config": {"Labels": {"a": 1}}},
        {"config": {"Volumes": ["/x"]}},
        {"history": [7]},
        {"history": [{"created_by": 7}]},
    ],
    ids=repr,
)
def test_configs_with_wrong_types(store: Store, layout: Layout, changes: dict):
    refused(store, str(with_config(layout, **changes).path))


def test_hostile_layers_are_refused_and_touch_nothing(store: Store, layout: Layout, tmp_path: Path):
    target = tmp_path / "target"
    target.mkdir()
    evil = tar(symlink("link", str(target)), file("link/planted"), file(f"../../{target}/x"))
    layout.index(layout.image([ONE, evil]))
    refused(store, str(layout.path))
    assert os.listdir(target) == []


@pytest.mark.parametrize("suffix", ["+gzip", "+zstd"])
def test_bombs_end_at_the_limit(store: Store, layout: Layout, suffix: str):
    bomb = tar(file("zeros", bytes(64 << 20)))
    layout.index(layout.image([bomb], suffix=suffix))
    limits = Limits(max_bytes=1 << 20)
    assert "max_bytes" in refused(store, str(layout.path), limits=limits)


def test_a_compressed_archive_ends_at_the_limit(store: Store, layout: Layout, tmp_path: Path):
    import gzip

    layout.index(layout.image([ONE]))
    path = layout.archive(tmp_path / "a.tar")
    path.write_bytes(gzip.compress(path.read_bytes() + bytes(8 << 20)))
    line = refused(store, f"oci-archive:{path}", limits=Limits(max_bytes=1 << 20))
    assert "max_bytes" in line


def test_names_of_an_archive_end_at_the_limit(store: Store, tmp_path: Path):
    path = tmp_path / "a.tar"
    path.write_bytes(tar(*(file("d/" * 400 + str(number)) for number in range(30))))
    assert "max_kept" in refused(store, f"docker-archive:{path}", limits=Limits(max_kept=20_000))


@pytest.mark.parametrize("cut", [100, 513, 1000, -1500])
def test_archives_that_are_cut_short(store: Store, tmp_path: Path, cut: int):
    path = tmp_path / "a.tar"
    path.write_bytes(docker_archive([ONE])[:cut])
    refused(store, f"docker-archive:{path}")


def test_archives_that_are_none(store: Store, tmp_path: Path):
    path = tmp_path / "a.tar"
    path.write_bytes(b"this is not a tar" * 100)
    refused(store, f"docker-archive:{path}")
    refused(store, str(path))
    path.write_bytes(b"\x1f\x8b" + b"nor is this gzip" * 100)
    refused(store, f"oci-archive:{path}")


def test_links_in_an_archive_lead_nowhere_else(store: Store, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_bytes(ONE)
    path = tmp_path / "a.tar"
    for target in (str(secret), f"../../../..{secret}", "b/layer.tar", "a/layer.tar"):
        members = [
            symlink("a/layer.tar", target),
            symlink("b/layer.tar", "../a/layer.tar"),
            file("c.json", to_json(config([ONE]))),
            file("manifest.json", to_json([{"Config": "c.json", "Layers": ["a/layer.tar"]}])),
        ]
        path.write_bytes(tar(*members))
        assert "a/layer.tar" in refused(store, f"docker-archive:{path}")


@pytest.mark.parametrize(
    "changes",
    [
        {"Config": "../../etc/passwd"},
        {"Config": 7},
        {"Config": sha256(b"other").removeprefix("sha256:") + ".json"},
        {"Layers": []},
        {"Layers": ["/etc/passwd"]},
        {"Layers": "x"},
        {"RepoTags": 7},
    ],
    ids=repr,
)
def test_wrong_docker_manifests(store: Store, tmp_path: Path, changes: dict):
    path = tmp_path / "a.tar"
    path.write_bytes(docker_archive([ONE], **changes))
    refused(store, f"docker-archive:{path}")


def test_errors_do_not_carry_control_characters(store: Store, layout: Layout):
    layout.index(
        layout.image([ONE], annotations={"org.opencontainers.image.ref.name": "a\nb\x1b[2J"})
    )
    with pytest.raises(UnionfsError) as caught:
        import_image(store, f"oci:{layout.path}:other")
    assert str(caught.value).isprintable()


def test_names_that_are_none_are_left_out(store: Store, layout: Layout):
    annotations = {"org.opencontainers.image.ref.name": "../../../x"}
    layout.index(layout.image([ONE], annotations=annotations))
    assert import_image(store, str(layout.path)).names == ()
    assert CONFIG.endswith("json")
