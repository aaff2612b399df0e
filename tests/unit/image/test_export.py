"""Exports: the same image in every form, byte for byte where that is promised, whole or not there.

What is written is read by this program's own importer, and by skopeo, umoci and podman.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from tests.support.images import (
    Layout,
    config,
    docker_archive,
    have,
    named,
    run,
    sha256,
    skopeo_copy,
)
from tests.support.stores import diff_id
from tests.support.tars import dir_, file, tar
from unionfs.digest import Digest
from unionfs.errors import CorruptError
from unionfs.image.destination import (
    BadDestinationError,
    DirectorySink,
    TakenError,
    UnwritableError,
    parse,
)
from unionfs.image.exporter import Exported, export_image
from unionfs.image.importer import import_image
from unionfs.store.records import ImageRecord
from unionfs.store.store import Store

ONE = tar(dir_("./", mode=0o711), file("a", b"1" * 5000, mode=0o640, uid=7))
TWO = tar(file("b/c", os.urandom(3000)), file("a", b"2"))
TWICE = tar(file("a", b"1"), file("a", b"2"))
KINDS = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(str(tmp_path / "store")) as opened:
        yield opened


@pytest.fixture
def image(store: Store, tmp_path: Path) -> ImageRecord:
    """The layers ONE and TWO, imported from a layout in gzip, with their blobs."""
    layout = Layout(tmp_path / "source")
    layout.index(layout.image([ONE, TWO], **named("1")))
    return import_image(store, str(layout.path), name="demo:1")


def blobs(path: Path) -> dict[str, bytes]:
    """Return the blobs of a layout, each checked against its name."""
    found = {f"sha256:{one.name}": one.read_bytes() for one in (path / "blobs/sha256").iterdir()}
    assert all(sha256(data) == name for name, data in found.items())
    return found


def layers_of(path: Path, exported: Exported) -> list[bytes]:
    """Return the blobs of the layers, as the manifest names them."""
    found = blobs(path)
    manifest = json.loads(found[str(exported.manifest)])
    told = [layer["digest"] for layer in manifest["layers"]]
    assert told == [str(layer.digest) for layer in exported.layers]
    return [found[digest] for digest in told]


def test_what_was_kept_comes_out_as_it_came(store: Store, image: ImageRecord, tmp_path: Path):
    exported = export_image(store, image, f"oci:{tmp_path}/out", name="demo:1")
    assert blobs(tmp_path / "out") == blobs(tmp_path / "source")
    assert exported.manifest == image.manifest_digest
    assert not any(layer.has_changed for layer in exported.layers)


def test_each_image_gets_the_blobs_that_it_came_with(store: Store, image, tmp_path: Path):
    """The same layers came in gzip, and in zstd for another image."""
    layout = Layout(tmp_path / "zstd")
    other = {**config([ONE, TWO]), "author": "another"}
    layout.index(layout.image([ONE, TWO], suffix="+zstd", document=other))
    zstd = import_image(store, str(layout.path), name="zstd")
    assert len(store.blobs.list()) == 4
    for record, source in ((image, "source"), (zstd, "zstd")):
        exported = export_image(store, record, f"oci:{tmp_path}/out-{source}")
        assert exported.manifest == record.manifest_digest
        assert blobs(tmp_path / f"out-{source}") == blobs(tmp_path / source)


def test_what_was_not_kept_has_the_same_tars(store: Store, image: ImageRecord, tmp_path: Path):
    for blob in store.blobs.list():
        store.blobs.drop(blob)
    exported = export_image(store, image, f"oci:{tmp_path}/out")
    found = layers_of(tmp_path / "out", exported)
    assert [gzip.decompress(layer) for layer in found] == [ONE, TWO]
    assert [layer.before for layer in exported.layers] == [
        Digest.parse(layer["digest"]) for layer in json.loads(image.manifest_blob or b"")["layers"]
    ]


def test_our_own_compression_is_found_again(store: Store, image: ImageRecord, tmp_path: Path):
    """Dropped blobs that our compressor wrote come out with the digest that they had."""
    first = export_image(store, image, f"oci:{tmp_path}/first", compression="zstd")
    with Store.open(str(tmp_path / "other")) as other:
        again = import_image(other, f"{tmp_path}/first", keep_blobs=False)
        assert again.id == image.id
        second = export_image(other, again, f"oci:{tmp_path}/second")
    assert second.manifest == first.manifest
    assert not any(layer.has_changed for layer in second.layers)
    assert blobs(tmp_path / "first") == blobs(tmp_path / "second")


@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
def test_compression(store: Store, image: ImageRecord, tmp_path: Path, kind):
    exported = export_image(store, image, f"oci:{tmp_path}/out", compression=kind)
    found = layers_of(tmp_path / "out", exported)
    if kind == "none":
        assert found == [ONE, TWO]
    else:
        assert all(layer.startswith(KINDS[kind]) for layer in found)
    with Store.open(str(tmp_path / "other")) as other:
        again = import_image(other, f"{tmp_path}/out")
        assert (again.id, again.diff_ids) == (image.id, image.diff_ids)


@pytest.mark.parametrize("form", ["oci", "oci-archive", "docker-archive"])
def test_our_own_importer_reads_it(store: Store, image: ImageRecord, tmp_path: Path, form: str):
    export_image(store, image, f"{form}:{tmp_path}/out", name="demo:1")
    with Store.open(str(tmp_path / "other")) as other:
        again = import_image(other, f"{form}:{tmp_path}/out")
        assert (again.id, again.names) == (image.id, ("demo:1",))


def test_a_docker_archive_holds_plain_tars(store: Store, image: ImageRecord, tmp_path: Path):
    export_image(store, image, f"docker-archive:{tmp_path}/out.tar", name="demo:1")
    with tarfile.open(tmp_path / "out.tar") as archive:
        (entry,) = json.load(archive.extractfile("manifest.json"))
        assert [archive.extractfile(name).read() for name in entry["Layers"]] == [ONE, TWO]
        assert sha256(archive.extractfile(entry["Config"]).read()) == str(image.id)
        assert entry["RepoTags"] == ["demo:1"]


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_archives_are_the_same_every_time(
    store: Store, image: ImageRecord, tmp_path: Path, form: str
):
    for name in ("a", "b"):
        export_image(store, image, f"{form}:{tmp_path}/{name}", name="demo:1", compression="gzip")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_layer_without_a_recipe(store: Store, tmp_path: Path):
    (tmp_path / "source.tar").write_bytes(docker_archive([TWICE]))
    image = import_image(store, f"{tmp_path}/source.tar", keep_blobs=False)
    exported = export_image(store, image, f"oci:{tmp_path}/out", compression="gzip")
    assert [gzip.decompress(one) for one in layers_of(tmp_path / "out", exported)] == [TWICE]


def test_a_layer_that_occurs_twice(store: Store, tmp_path: Path):
    layout = Layout(tmp_path / "source")
    layout.index(layout.image([ONE, TWO, ONE]))
    image = import_image(store, str(layout.path))
    for form in ("oci", "oci-archive", "docker-archive"):
        exported = export_image(store, image, f"{form}:{tmp_path}/{form}")
        assert len(exported.layers) == 3
        with Store.open(str(tmp_path / f"store-{form}")) as other:
            assert import_image(other, f"{form}:{tmp_path}/{form}").diff_ids == image.diff_ids


def test_a_changed_layer_is_refused_and_nothing_stays(
    store: Store, image: ImageRecord, tmp_path: Path
):
    Path(store.layers.path(diff_id(ONE)), "a").write_bytes(b"x" * 5000)
    for form in ("oci", "oci-archive", "docker-archive"):
        with pytest.raises(CorruptError, match=str(diff_id(ONE))):
            export_image(store, image, f"{form}:{tmp_path}/out", compression="none")
    assert sorted(os.listdir(tmp_path)) == ["source", "store"]


def test_a_changed_blob_is_refused(store: Store, image: ImageRecord, tmp_path: Path):
    blob = Path(store.blobs.path(store.blobs.list()[0].digest))
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(CorruptError, match="blob"):
        export_image(store, image, f"oci:{tmp_path}/out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing(
    store: Store, image: ImageRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(DirectorySink, "document", full)
    with pytest.raises(UnwritableError, match="No space"):
        export_image(store, image, f"oci:{tmp_path}/out")
    assert sorted(os.listdir(tmp_path)) == ["source", "store"]
    monkeypatch.undo()
    export_image(store, image, f"oci:{tmp_path}/out")


def test_nothing_is_overwritten(store: Store, image: ImageRecord, tmp_path: Path):
    (tmp_path / "there").write_text("mine")
    for form in ("oci", "oci-archive", "docker-archive"):
        with pytest.raises(TakenError, match="is there already"):
            export_image(store, image, f"{form}:{tmp_path}/there")
    assert (tmp_path / "there").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    export_image(store, image, f"oci:{tmp_path}/empty")


@pytest.mark.parametrize("word", ["", "x", "oci:", "rootfs:x", "oci:a:", "docker-archive:a:b"])
def test_words_that_are_no_destination(word: str):
    with pytest.raises(BadDestinationError):
        parse(word)


def test_where_a_reference_is():
    assert (parse("oci:a/b:1").path, parse("oci:a/b:1").reference) == ("a/b", "1")
    assert parse("oci:a:b/c").path == "a:b/c"


needs_tools = pytest.mark.skipif(
    have("skopeo", "umoci", "podman") is not None, reason=str(have("skopeo", "umoci", "podman"))
)


@needs_tools
@pytest.mark.parametrize("form", ["oci", "oci-archive", "docker-archive"])
@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
def test_skopeo_reads_it(store: Store, image: ImageRecord, tmp_path: Path, form: str, kind):
    export_image(store, image, f"{form}:{tmp_path}/out", name="demo:1", compression=kind)
    skopeo_copy(f"{form}:{tmp_path}/out", f"dir:{tmp_path}/copy")
    manifest = json.loads((tmp_path / "copy/manifest.json").read_bytes())
    assert manifest["config"]["digest"] == str(image.id)
    back = f"{form}:{tmp_path}/back"  # to another form, skopeo writes another config
    skopeo_copy(f"dir:{tmp_path}/copy", f"{back}:demo:1" if "docker" in form else f"{back}:1")
    with Store.open(str(tmp_path / "other")) as other:
        assert import_image(other, back).id == image.id


@needs_tools
def test_umoci_reads_it(store: Store, image: ImageRecord, tmp_path: Path):
    export_image(store, image, f"oci:{tmp_path}/out", name="demo:1")
    flags = [] if os.geteuid() == 0 else ["--rootless"]
    run("umoci", "unpack", *flags, "--image", f"{tmp_path}/out:1", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/a").read_bytes() == b"2"


@pytest.fixture
def short_path():
    with tempfile.TemporaryDirectory(prefix="u", dir="/tmp") as path:
        yield Path(path)


@needs_tools
@pytest.mark.needs_root
@pytest.mark.parametrize("form", ["oci", "oci-archive", "docker-archive"])
def test_podman_and_buildah_read_it(
    store: Store, image: ImageRecord, tmp_path: Path, short_path: Path, form: str
):
    export_image(store, image, f"{form}:{tmp_path}/out", name="demo:1")
    for tool in ("podman", "buildah"):
        short = short_path / tool  # podman refuses a long path
        storage = ["--root", f"{short}", "--runroot", f"{short}-run", "--storage-driver", "vfs"]
        done = subprocess.run(
            [tool, *storage, "pull", "-q", f"{form}:{tmp_path}/out"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout.strip()) == (0, image.id.hex), done.stderr
