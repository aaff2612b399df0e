"""Layers that somebody changed: each difference is named, whatever the layer is verified by."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import tars
from tests.support.images import Layout
from tests.support.stores import diff_id
from unionfs.image.importer import import_image
from unionfs.image.verify import Fault, verify_layer
from unionfs.store.store import Store

MEMBERS = (
    tars.dir_("./"),
    tars.dir_("d", mode=0o1777, uid=5),
    tars.file(
        "./d/file", b"content", mode=0o4755, xattrs={"user.a": b"1", "trusted.overlay.x": b"y"}
    ),
    tars.file("d/other", b"another", xattrs={"user.long": b"x" * 2000}),  # it takes a block
    tars.file("large", bytes(range(256)) * 9000),
    tars.file("implied/by/this", b"!"),
    tars.hardlink("link", "d/file"),
    tars.symlink("s", "target"),
    tars.fifo("p"),
    tars.char_device("c", 1, 3),
    tars.whiteout("gone"),
    tars.opaque("d"),
    tars.sparse_pax("sparse", 1 << 20, [(8192, b"s" * 4096)], "1.0"),
)
TAR = tars.tar(*MEMBERS)
PLAIN = tars.tar(tars.dir_("./"), tars.file("a", b"1"), tars.file("b", b"2"))
TWICE = tars.tar(*MEMBERS, tars.file("large", b"small now"), tars.file("d/other", b"ANOTHER"))


def stored(store: Store, place: Path, data: bytes, *, suffix: str = "+gzip") -> Path:
    """Import a layer; return its directory."""
    layout = Layout(place)
    layout.index(layout.image([data], suffix=suffix))
    import_image(store, str(layout.path))
    return Path(store.layers.path(diff_id(data)))


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(str(tmp_path / "store")) as opened:
        yield opened


def verified(store: Store, data: bytes = TAR) -> list[Fault]:
    told: list[int] = []
    before = set(os.listdir(f"{store.root}/tmp"))
    found = list(verify_layer(store, diff_id(data), told.append))
    assert set(os.listdir(f"{store.root}/tmp")) == before
    return found


def by_recipe(store: Store, tree: Path) -> bytes:
    store.blobs.drop(*store.blobs.list())
    return TAR


def by_blob(store: Store, tree: Path) -> bytes:
    (tree.parent / "recipe").unlink()
    return TAR


def content(tree: Path) -> None:
    """With the times of before."""
    for name in ("d/other", "large"):
        st = (tree / name).stat()
        with open(tree / name, "r+b") as file:
            file.seek(3)
            file.write(b"XX")
        os.utime(tree / name, ns=(st.st_atime_ns, st.st_mtime_ns))


def hole(tree: Path) -> None:
    st = (tree / "sparse").stat()
    with open(tree / "sparse", "r+b") as file:
        file.seek(500_000)
        file.write(b"X")
    os.utime(tree / "sparse", ns=(st.st_atime_ns, st.st_mtime_ns))


def length(tree: Path) -> None:
    os.truncate(tree / "large", 10)
    os.utime(tree / "large", (0, 0))


def missing(tree: Path) -> None:
    keeping(tree, lambda: (tree / "large").unlink())


def extra(tree: Path) -> None:
    keeping(tree, lambda: (tree / "d/new").mkdir(), "d")


def kind(tree: Path) -> None:
    def change() -> None:
        (tree / "d/other").unlink()
        (tree / "d/other").symlink_to("/etc/passwd")

    keeping(tree, change, "d")


def mode(tree: Path) -> None:
    (tree / "d").chmod(0o755)


def owner(tree: Path) -> None:
    os.lchown(tree / "s", 7, 8)


def time(tree: Path) -> None:
    os.utime(tree / "d/other", ns=(0, 1_500_000_000))


def target(tree: Path) -> None:
    def change() -> None:
        (tree / "s").unlink()
        (tree / "s").symlink_to("elsewhere")
        os.utime(tree / "s", (0, 0), follow_symlinks=False)

    keeping(tree, change)


def attribute(tree: Path) -> None:
    os.setxattr(tree / "d/file", "user.a", b"2")


def more_attributes(tree: Path) -> None:
    os.setxattr(tree / "d", "user.b", b"2")


def no_opaque(tree: Path) -> None:
    os.removexattr(tree / "d", "trusted.overlay.opaque")


def no_link(tree: Path) -> None:
    def change() -> None:
        shutil.copy2(tree / "d/file", tree / "copy")
        os.setxattr(tree / "copy", "trusted.overlay.overlay.x", b"y")
        os.rename(tree / "copy", tree / "link")

    keeping(tree, change)


def no_whiteout(tree: Path) -> None:
    keeping(tree, (tree / "gone").unlink)


def device(tree: Path) -> None:
    def change() -> None:
        st = (tree / "c").stat()
        (tree / "c").unlink()
        os.mknod(tree / "c", st.st_mode, os.makedev(1, 5))
        os.utime(tree / "c", ns=(st.st_atime_ns, st.st_mtime_ns))

    keeping(tree, change)


def keeping(tree: Path, change: Callable[[], object], name: str = ".") -> None:
    """Make a change and give the directory *name* its time back."""
    st = (tree / name).stat()
    change()
    os.utime(tree / name, ns=(st.st_atime_ns, st.st_mtime_ns))


CASES = {
    content: [("d/other", "has other content"), ("large", "has other content")],
    hole: [("sparse", "has other content")],
    length: [("large", "has 10 bytes instead of 2304000")],
    missing: [("large", "is missing (a file)")],
    extra: [("d/new", "was not there (a directory)")],
    kind: [("d/other", "is a symbolic link instead of a file")],
    mode: [("d", "has mode 0755 instead of 1777")],
    owner: [("s", "belongs to 7:8 instead of 0:0")],
    time: [("d/other", "was modified at 1.500000000 instead of 0.000000000")],
    target: [("s", "has the target elsewhere instead of target")],
    attribute: [("link", "has another value of user.a"), ("d/file", "has another value of user.a")],
    more_attributes: [("d", "has an attribute user.b that it had not")],
    no_opaque: [("d", "has lost its attribute trusted.overlay.opaque")],
    no_link: [("d/file", "is not the same file as link any more")],
    no_whiteout: [("gone", "is missing (a whiteout)")],
    device: [("c", "is another device")],
}


@pytest.mark.needs_root
@pytest.mark.parametrize("by", [by_recipe, by_blob])
def test_every_difference_is_named(store: Store, tmp_path: Path, by) -> None:
    tree = stored(store, tmp_path / "image", TAR)
    by(store, tree)
    assert verified(store) == []
    for damage, wanted in CASES.items():
        kept = tmp_path / "kept"
        subprocess.run(["cp", "-a", tree, kept], check=True)
        damage(tree)
        found = [(os.fsdecode(path or b"-"), says) for path, says in verified(store)]
        assert sorted(found) == sorted(wanted), damage
        shutil.rmtree(tree)
        os.rename(kept, tree)
    assert verified(store) == []


@pytest.mark.needs_root
def test_a_tar_that_names_a_file_twice_is_verified_by_its_blob(
    store: Store, tmp_path: Path
) -> None:
    tree = stored(store, tmp_path / "image", TWICE)
    assert store.layers.recipe_path(diff_id(TWICE)) is None
    assert verified(store, TWICE) == []
    content(tree)
    assert [path for path, _ in verified(store, TWICE)] == [b"large", b"d/other"]


def test_with_nothing_but_its_digest_a_change_is_told_and_not_where(
    store: Store, tmp_path: Path
) -> None:
    """Layers of stores that were made before there were recipes."""
    tree = stored(store, tmp_path / "image", PLAIN)
    by_recipe(store, tree)
    by_blob(store, tree)
    assert verified(store, PLAIN) == []
    (tree / "a").write_bytes(b"3")
    ((path, says),) = verified(store, PLAIN)
    assert path is None
    assert "not what was imported any more" in says


def test_a_damaged_blob_is_told_and_the_recipe_used(store: Store, tmp_path: Path) -> None:
    tree = stored(store, tmp_path / "image", PLAIN)
    (blob,) = store.blobs.list()
    path = Path(store.blobs.path(blob.digest))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    (tree / "b").unlink()
    keeping(tree, lambda: None)
    first, *rest = verified(store, PLAIN)
    assert first.path is None
    assert "its kept blob is damaged" in first.says
    assert (b"b", "is missing (a file)") in rest


def test_a_damaged_recipe_is_told_and_the_blob_used(store: Store, tmp_path: Path) -> None:
    tree = stored(store, tmp_path / "image", PLAIN)
    (tree.parent / "recipe").write_bytes(b"nonsense")
    st = (tree / "a").stat()
    (tree / "a").write_bytes(b"3")
    os.utime(tree / "a", ns=(st.st_atime_ns, st.st_mtime_ns))
    first, second = verified(store, PLAIN)
    assert (first.path, second) == (None, (b"a", "has other content"))


def test_a_layer_that_is_gone_is_told(store: Store, tmp_path: Path) -> None:
    shutil.rmtree(stored(store, tmp_path / "image", PLAIN))
    ((path, says),) = verified(store, PLAIN)
    assert path is None
    assert "cannot be read" in says
