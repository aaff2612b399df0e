"""Writing layouts: the same bytes for the same input, and nothing half-made."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.layers import FLAVOUR
from unionfs.errors import UnionfsError
from unionfs.image.importer import import_image
from unionfs.image.platform import Platform
from unionfs.image.writer import DestinationError, HistoryError, pack_layout
from unionfs.store.store import Store


@pytest.fixture
def layers(tmp_path: Path) -> list[str]:
    for layer in ("one", "two"):
        (tmp_path / layer / "etc").mkdir(parents=True)
        (tmp_path / layer / "etc" / layer).write_bytes(layer.encode() * 1000)
    return [str(tmp_path / "one"), str(tmp_path / "two")]


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_what_is_packed_comes_back(tmp_path: Path, layers: list[str], compression):
    manifest = pack_layout(
        str(tmp_path / "out"),
        layers,
        flavour=FLAVOUR,
        run_config={"Cmd": ["/bin/sh"], "Env": ["A=b"]},
        history=["first", "second"],
        compression=compression,
        reference="demo",
        platform=Platform("linux", "arm", "v7"),
    )
    with Store.open(str(tmp_path / "store")) as store:
        image = import_image(
            store, f"oci:{tmp_path / 'out'}:demo", platform="arm/v7" and "linux/arm/v7"
        )
        assert image.manifest_digest == manifest
        assert image.names == ("out:demo",)
        assert (image.architecture, image.variant) == ("arm", "v7")
        assert image.run_config == {"Cmd": ["/bin/sh"], "Env": ["A=b"]}
        assert [step["created_by"] for step in image.history] == ["first", "second"]
        top, bottom = store.images.stack(image.id)
        assert Path(top, "etc", "two").read_bytes() == b"two" * 1000
        assert os.listdir(Path(bottom, "etc")) == ["one"]


def test_the_same_input_makes_the_same_bytes(
    tmp_path: Path, layers: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1600000000")
    digests = set()
    for name in ("a", "b"):
        digests.add(pack_layout(str(tmp_path / name), layers, flavour=FLAVOUR))
        os.utime(Path(layers[0]) / "etc" / "one")  # newer than the epoch: capped
    assert len(digests) == 1
    files = [
        {
            str(p.relative_to(tmp_path / name)): p.read_bytes()
            for p in (tmp_path / name).rglob("*")
            if p.is_file()
        }
        for name in ("a", "b")
    ]
    assert files[0] == files[1]
    assert not any(Path(name).name.startswith(".") for name in files[0])


def test_a_full_destination_is_refused(tmp_path: Path, layers: list[str]):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").touch()
    with pytest.raises(DestinationError, match="not empty"):
        pack_layout(str(tmp_path / "out"), layers, flavour=FLAVOUR)
    with pytest.raises(HistoryError, match="2 layers with 1"):
        pack_layout(str(tmp_path / "new"), layers, flavour=FLAVOUR, history=["one"])
    assert not (tmp_path / "new").exists()


def test_a_layer_that_fails_leaves_no_image(tmp_path: Path, layers: list[str]):
    (Path(layers[1]) / ".wh.x").touch()
    with pytest.raises(UnionfsError):
        pack_layout(str(tmp_path / "out"), layers, flavour=FLAVOUR)
    assert sorted(os.listdir(tmp_path / "out")) == ["blobs"]
    assert len(os.listdir(tmp_path / "out" / "blobs" / "sha256")) == 1


def test_a_layer_that_occurs_twice_is_one_blob(tmp_path: Path, layers: list[str]):
    pack_layout(str(tmp_path / "out"), [layers[0], layers[0]], flavour=FLAVOUR)
    assert len(os.listdir(tmp_path / "out" / "blobs" / "sha256")) == 3
    index = json.loads((tmp_path / "out" / "index.json").read_bytes())
    assert [entry["annotations"] for entry in index["manifests"]] == [
        {"org.opencontainers.image.ref.name": "latest"}
    ]
