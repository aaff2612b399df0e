"""What an import keeps of the layers as they came, and what makes their tars again."""

from __future__ import annotations

import gzip
import io
import os
import random
from pathlib import Path

import pytest

from tests.support.images import Layout, docker_archive, sha256
from tests.support.stores import diff_id
from tests.support.tars import file, tar
from unionfs.digest import Digest
from unionfs.errors import CorruptError
from unionfs.image.importer import import_image
from unionfs.store.garbage import Sweep
from unionfs.store.store import Store
from unionfs.tarball.recipe import replay

NOISE = random.Random(3).randbytes(300_000)
TAR = tar(file("a", NOISE), file("b", b"x" * 200_000))
TWICE = tar(file("a", b"1"), file("a", b"2"))


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(str(tmp_path / "store")) as opened:
        yield opened


def layout(path: Path, *tars: bytes, suffix: str = "+gzip") -> Layout:
    made = Layout(path)
    return made.index(made.image(tars, suffix=suffix))


def kept(store: Store) -> list[bytes]:
    """The content of all kept blobs, each checked against its name."""
    found = []
    for blob in store.blobs.list():
        data = Path(store.blobs.path(blob.digest)).read_bytes()
        assert (sha256(data), len(data)) == (str(blob.digest), blob.size)
        found.append(data)
    assert len(os.listdir(Path(store.root, "blobs/sha256"))) == len(found)
    return found


def remade(store: Store, data: bytes) -> bytes:
    out = io.BytesIO()
    fd = os.open(store.layers.path(diff_id(data)), os.O_RDONLY)
    recipe = store.layers.recipe_path(diff_id(data))
    assert recipe is not None
    with open(recipe, "rb") as source:
        replay(source, fd, out)
    os.close(fd)
    return out.getvalue()


@pytest.mark.parametrize("suffix", ["+gzip", "+zstd"])
def test_compressed_layers_are_kept(store: Store, tmp_path: Path, suffix: str):
    source = layout(tmp_path / "image", TAR, suffix=suffix)
    import_image(store, str(source.path))
    (blob,) = kept(store)
    assert source.blob_path(sha256(blob)).read_bytes() == blob
    assert store.blobs.list()[0].media_type.endswith(f"tar{suffix}")
    assert remade(store, TAR) == TAR


def test_they_are_not_if_that_is_not_wanted(store: Store, tmp_path: Path):
    source = layout(tmp_path / "image", TAR)
    import_image(store, str(source.path), keep_blobs=False)
    assert kept(store) == []
    assert remade(store, TAR) == TAR
    import_image(store, str(source.path))  # again, and now it is: the layer is not made again
    assert gzip.decompress(kept(store)[0]) == TAR


def test_plain_tars_are_not_kept(store: Store, tmp_path: Path):
    (tmp_path / "docker.tar").write_bytes(docker_archive([TAR]))
    import_image(store, str(tmp_path / "docker.tar"))
    assert kept(store) == []
    assert remade(store, TAR) == TAR


def test_a_layer_without_a_recipe_is_always_kept(store: Store, tmp_path: Path):
    (tmp_path / "docker.tar").write_bytes(docker_archive([TWICE]))
    import_image(store, str(tmp_path / "docker.tar"), keep_blobs=False)
    assert store.layers.recipe_path(diff_id(TWICE)) is None
    assert kept(store) == [TWICE]
    (blob,) = store.blobs.list()
    store.blobs.drop(blob)
    import_image(store, str(tmp_path / "docker.tar"), keep_blobs=False)
    assert kept(store) == [TWICE]


def test_a_wrong_blob_is_not_kept(store: Store, tmp_path: Path):
    source = layout(tmp_path / "image", TAR)
    (blob,) = [p for p in source.path.rglob("*") if p.is_file() and p.stat().st_size > 100_000]
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(CorruptError):
        import_image(store, str(source.path))
    assert kept(store) == []
    assert store.layers.list() == []


def test_a_compressed_root_filesystem_is_kept(store: Store, tmp_path: Path):
    (tmp_path / "root.tar.gz").write_bytes(gzip.compress(TAR))
    import_image(store, f"rootfs:{tmp_path}/root.tar.gz")
    assert [gzip.decompress(blob) for blob in kept(store)] == [TAR]


def test_dropping_leaves_those_that_a_layer_needs(store: Store, tmp_path: Path):
    import_image(store, str(layout(tmp_path / "image", TAR, TWICE).path))
    assert len(kept(store)) == 2
    with store.lease([diff_id(TAR)]):  # an export's, say
        sweep = Sweep(measured=True)
        store.sweep(sweep, blobs=True)
        assert (sweep.found, len(kept(store))) == ([], 2)
    store.sweep(sweep, blobs=True)
    ((kind, name, size),) = sweep.found
    assert kind == "blob"
    assert 300_000 < size < 320_000
    assert not os.path.exists(store.blobs.path(Digest.parse(name)))
    assert [gzip.decompress(blob) for blob in kept(store)] == [TWICE]
