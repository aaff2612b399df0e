"""Plain root filesystems: directories and tars."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from tests.support.images import MACHINE
from tests.support.stores import diff_id, everything
from tests.support.tars import dir_, file, tar
from tests.support.trees import assert_same, snapshot
from unionfs.errors import UnionfsError
from unionfs.image.importer import import_image
from unionfs.image.plan import NotAnImageError
from unionfs.image.source import NoSuchSourceError
from unionfs.store.store import Store

TREE = tar(dir_("./", mode=0o711, mtime=5), dir_("etc/", mtime=6), file("etc/passwd", b"root"))


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(str(tmp_path / "store")) as opened:
        yield opened


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "My Debian"
    (root / "etc").mkdir(parents=True)
    (root / "usr").mkdir(mode=0o750)
    (root / "etc" / "passwd").write_bytes(b"root")
    os.link(root / "etc" / "passwd", root / "etc" / "passwd-")
    (root / "bin").symlink_to("usr/bin")
    os.setxattr(root / "usr", "user.note", b"x")
    for path in (root / "etc", root / "usr", root):
        os.utime(path, ns=(1, 1_000_000_002))
    return root


@pytest.mark.parametrize("prefix", ["", "rootfs:"])
def test_a_directory_becomes_an_image_of_one_layer(store: Store, tree: Path, prefix: str):
    image = import_image(store, f"{prefix}{tree}")
    assert image.names == ("my-debian:latest",)
    assert (image.os, image.architecture) == ("linux", MACHINE)
    [layer] = store.images.stack(image.id)
    assert_same(
        snapshot(os.fsencode(tree)), snapshot(os.fsencode(layer)), ("the directory", "the layer")
    )


def test_the_same_directory_is_the_same_layer(
    store: Store, tree: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    one, two = import_image(store, f"rootfs:{tree}"), import_image(store, f"rootfs:{tree}")
    assert one.id == two.id
    assert one.created == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("prefix", ["", "rootfs:"])
def test_a_tar_keeps_its_diff_id(store: Store, tmp_path: Path, prefix: str, compressed: bool):
    path = tmp_path / "base.rootfs.tar.gz"
    path.write_bytes(gzip.compress(TREE) if compressed else TREE)
    image = import_image(store, f"{prefix}{path}", platform="linux/arm/v7")
    assert image.diff_ids == (diff_id(TREE),)
    assert image.names == ("base-rootfs:latest",)
    assert (image.architecture, image.variant) == ("arm", "v7")
    assert store.layers.get(diff_id(TREE)).images == (image.id,)


def test_what_holds_no_root_is_not_taken_by_mistake(store: Store, tmp_path: Path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear").touch()
    with pytest.raises(NotAnImageError, match="rootfs:PATH"):
        import_image(store, str(tmp_path / "letters"))
    assert len(import_image(store, f"rootfs:{tmp_path / 'letters'}").diff_ids) == 1


def test_a_tree_that_no_tar_can_say_is_refused_whole(store: Store, tree: Path):
    before = everything(Path(store.root))
    (tree / "etc" / ".wh.x").touch()
    with pytest.raises(UnionfsError, match=r"\.wh\.x"):
        import_image(store, f"rootfs:{tree}")
    assert everything(Path(store.root)) == before
    assert store.layers.list() == []


def test_a_tar_that_is_damaged_is_refused_whole(store: Store, tmp_path: Path):
    before = everything(Path(store.root))
    path = tmp_path / "a.tar"
    path.write_bytes(TREE[:1200])
    with pytest.raises(UnionfsError, match="ends"):
        import_image(store, f"rootfs:{path}")
    assert everything(Path(store.root)) == before


def test_what_is_not_there(store: Store, tmp_path: Path):
    for source in (f"rootfs:{tmp_path}/none", f"{tmp_path}/none", f"oci:{tmp_path}/none:x"):
        with pytest.raises(NoSuchSourceError, match="none"):
            import_image(store, source)


def test_special_files_are_no_sources(store: Store, tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    for prefix in ("", "rootfs:", "docker-archive:", "oci-archive:"):
        with pytest.raises(UnionfsError, match="not a plain file"):
            import_image(store, f"{prefix}{tmp_path / 'fifo'}")


def test_a_directory_whose_name_is_no_text(store: Store, tree: Path):
    odd = os.fsdecode(b"odd\xff")
    tree.rename(tree.parent / odd)
    image = import_image(store, f"rootfs:{tree.parent / odd}")
    assert image.history[0]["created_by"] == "unionfs image import rootfs:odd\ufffd"
