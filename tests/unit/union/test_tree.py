"""Merging: which names show, and from which layer each comes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.marks import UnknownMarkError
from unionfs.ondisk.whiteout import make_whiteout
from unionfs.union.layer import BadLayerError, FdPool, Layer, Part
from unionfs.union.node import Node
from unionfs.union.tree import Tree

Open = Callable[..., Tree]


class Layers:
    """Directories, topmost first, that tests fill by path."""

    def __init__(self, folder: Path, count: int = 3) -> None:
        self.paths = [folder / f"layer{number}" for number in range(count)]
        for path in self.paths:
            path.mkdir()

    def __getitem__(self, number: int) -> Path:
        return self.paths[number]

    def file(self, number: int, path: str, content: str = "") -> None:
        at = self.paths[number] / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(content or f"{path} of {number}")

    def directory(self, number: int, path: str, **marks: bytes) -> None:
        at = self.paths[number] / path
        at.mkdir(parents=True, exist_ok=True)
        for name, value in marks.items():
            os.setxattr(at, f"user.overlay.{name}", value)

    def whiteout(self, number: int, path: str) -> None:
        at = self.paths[number] / path
        at.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(at.parent, os.O_RDONLY)
        make_whiteout(fd, os.fsencode(at.name))
        os.close(fd)


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(tmp_path)


@pytest.fixture
def open_tree(layers: Layers) -> Iterator[Open]:
    trees: list[Tree] = []

    def open_tree(*, aufs: bool = False, plain: bool = False, limit: int = 256) -> Tree:
        pool = FdPool(limit)
        opened = [
            Layer(os.fsencode(path), number, Flavour.USER, pool, aufs=aufs, plain=plain)
            for number, path in enumerate(layers.paths, start=1)
        ]
        trees.append(Tree(opened, pool))
        return trees[-1]

    yield open_tree
    for tree in trees:
        tree.close()


def find(tree: Tree, path: str) -> Node | None:
    node: Node | None = tree.root
    for name in path.split("/"):
        assert node is not None
        node = tree.lookup(node, os.fsencode(name))
    return node


def shown(tree: Tree) -> dict[str, str]:
    """Return every path with its content, or ``/`` for a directory."""
    found: dict[str, str] = {}
    stack = [("", tree.root)]
    while stack:
        path, node = stack.pop()
        for name, child in tree.load(node).items():
            here = path + os.fsdecode(name)
            if child.is_dir:
                found[here] = "/"
                stack.append((here + "/", child))
            else:
                fd = tree.open(child, os.O_RDONLY)
                found[here] = os.read(fd, 100).decode()
                os.close(fd)
    return found


def test_the_topmost_of_a_name_counts_and_directories_merge(
    layers: Layers, open_tree: Open
) -> None:
    layers.file(0, "dir/both")
    layers.file(1, "dir/both")
    layers.file(1, "dir/middle")
    layers.file(2, "dir/low")
    assert shown(open_tree()) == {
        "dir": "/",
        "dir/both": "dir/both of 0",
        "dir/middle": "dir/middle of 1",
        "dir/low": "dir/low of 2",
    }


def test_whiteouts_hide_what_is_below_and_nothing_beside(layers: Layers, open_tree: Open) -> None:
    layers.file(2, "gone")
    layers.whiteout(1, "gone")
    layers.file(2, "again")
    layers.whiteout(1, "again")
    layers.file(0, "again")
    layers.file(2, "dir/old")
    layers.whiteout(1, "dir")
    layers.file(0, "dir/new")
    layers.whiteout(2, "nothing-below")
    assert shown(open_tree()) == {"again": "again of 0", "dir": "/", "dir/new": "dir/new of 0"}


def test_a_file_between_directories_cuts_them_apart(layers: Layers, open_tree: Open) -> None:
    layers.file(0, "x/top")
    layers.file(1, "x")
    layers.file(2, "x/below")
    assert shown(open_tree()) == {"x": "/", "x/top": "x/top of 0"}


def test_opaque_directories_hide_what_is_below(layers: Layers, open_tree: Open) -> None:
    layers.file(2, "dir/below")
    layers.directory(1, "dir", opaque=b"y")
    layers.file(1, "dir/middle")
    layers.file(0, "dir/top")
    assert sorted(shown(open_tree())) == ["dir", "dir/middle", "dir/top"]


def test_an_opaque_root_hides_whole_layers(layers: Layers, open_tree: Open) -> None:
    layers.file(2, "below")
    layers.directory(1, ".", opaque=b"y")
    layers.file(1, "middle")
    assert sorted(shown(open_tree())) == ["middle"]


def test_whiteouts_as_attributes_count_only_where_the_directory_says_so(
    layers: Layers, open_tree: Open
) -> None:
    for folder in ("marked", "plain"):
        layers.file(2, f"{folder}/file")
        layers.directory(0, folder)
        (layers[0] / folder / "file").touch()
        os.setxattr(layers[0] / folder / "file", "user.overlay.whiteout", b"")
    os.setxattr(layers[0] / "marked", "user.overlay.opaque", b"x")
    assert shown(open_tree()) == {"marked": "/", "plain": "/", "plain/file": ""}


def test_a_file_with_content_is_no_whiteout(layers: Layers, open_tree: Open) -> None:
    """Whatever it is marked with: fs/overlayfs/util.c, ovl_path_check_xwhiteout_xattr()."""
    layers.file(1, "folder/file", "below")
    layers.file(0, "folder/file", "content")
    os.setxattr(layers[0] / "folder/file", "user.overlay.whiteout", b"y")
    os.setxattr(layers[0] / "folder", "user.overlay.opaque", b"x")
    assert shown(open_tree()) == {"folder": "/", "folder/file": "content"}


@pytest.mark.parametrize("redirect", [b"n" * 256, b"/folder/" + b"n" * 256])
def test_a_redirect_longer_than_names_are_leads_nowhere(
    layers: Layers, open_tree: Open, redirect: bytes
) -> None:
    layers.file(1, "folder/file")
    layers.file(0, "renamed/file", "above")
    layers.directory(0, "renamed", redirect=redirect)
    tree = shown(open_tree())
    assert tree["renamed/file"] == "above"


@pytest.mark.parametrize("redirect", [b"old", b"/dir/old"])
def test_redirects_lead_to_lower_directories(
    layers: Layers, open_tree: Open, redirect: bytes
) -> None:
    layers.file(2, "dir/old/low")
    layers.file(1, "dir/old/middle")
    layers.whiteout(0, "dir/old")
    layers.directory(0, "dir/new", redirect=redirect)
    layers.file(0, "dir/new/top")
    layers.file(2, "dir/new/not-this")
    assert sorted(shown(open_tree())) == [
        "dir",
        "dir/new",
        "dir/new/low",
        "dir/new/middle",
        "dir/new/top",
    ]


def test_redirects_of_several_layers_are_followed_one_after_the_other(
    layers: Layers, open_tree: Open
) -> None:
    layers.file(2, "first/deep/file")
    layers.whiteout(1, "first")
    layers.directory(1, "second", redirect=b"/first")
    layers.file(1, "second/added")
    layers.whiteout(1, "second/hidden")
    layers.file(2, "first/hidden")
    layers.whiteout(0, "second")
    layers.directory(0, "third/moved", redirect=b"/second")
    assert sorted(shown(open_tree())) == [
        "third",
        "third/moved",
        "third/moved/added",
        "third/moved/deep",
        "third/moved/deep/file",
    ]


@pytest.mark.parametrize("between", ["whiteout", "file", "opaque"])
def test_a_redirect_sees_no_further_than_a_lookup_would(
    layers: Layers, open_tree: Open, between: str
) -> None:
    layers.file(2, "old/low")
    if between == "opaque":
        layers.directory(1, "old", opaque=b"y")
    elif between == "file":
        layers.file(1, "old")
    else:
        layers.whiteout(1, "old")
    layers.directory(0, "new", redirect=b"/old")
    layers.whiteout(0, "old")
    assert sorted(shown(open_tree())) == ["new"]


def test_a_redirect_that_leads_nowhere_is_an_empty_directory(
    layers: Layers, open_tree: Open
) -> None:
    layers.directory(0, "dir", redirect=b"/none/at/all")
    layers.file(0, "dir/own")
    assert sorted(shown(open_tree())) == ["dir", "dir/own"]


def test_a_redirect_out_of_the_tree_is_refused(layers: Layers, open_tree: Open) -> None:
    layers.directory(0, "dir", redirect=b"/../..")
    node = find(tree := open_tree(), "dir")
    assert node is not None
    with pytest.raises(UnknownMarkError):
        tree.load(node)


def test_aufs_names_are_whiteouts_only_where_that_is_asked_for(
    layers: Layers, open_tree: Open
) -> None:
    layers.file(2, "gone")
    layers.file(1, ".wh.gone")
    layers.file(2, "dir/below")
    layers.file(1, "dir/.wh..wh..opq")
    layers.file(1, "dir/above")
    layers.file(1, "both")
    layers.file(1, ".wh.both")
    layers.file(1, ".wh..wh.plnk")
    assert sorted(shown(open_tree(aufs=True))) == ["both", "dir", "dir/above"]
    names = shown(open_tree())
    assert {".wh.gone", ".wh.both", "gone", "dir/below", "dir/.wh..wh..opq"} <= set(names)


def test_lower_shows_what_a_whiteout_would_have_to_hide(layers: Layers, open_tree: Open) -> None:
    layers.file(1, "file")
    layers.whiteout(1, "gone")
    layers.file(2, "gone")
    tree = open_tree()
    names = (b"file", b"gone", b"none")
    assert [tree.lower_shows(tree.root, name) for name in names] == [True, False, False]


def test_kinds_are_known_from_reading_the_directory(layers: Layers, open_tree: Open) -> None:
    layers.file(0, "file")
    os.symlink("x", layers[0] / "link")
    os.mkfifo(layers[0] / "fifo")
    tree = open_tree()
    kinds = {name: node.kind for name, node in tree.load(tree.root).items()}
    assert kinds == {b"file": stat.S_IFREG, b"link": stat.S_IFLNK, b"fifo": stat.S_IFIFO}


def test_layers_are_not_written(layers: Layers, open_tree: Open) -> None:
    layers.file(0, "dir/file")
    times = [(layers[0] / name).stat().st_mtime_ns for name in ("dir", "dir/file")]
    shown(open_tree())
    assert [(layers[0] / name).stat().st_mtime_ns for name in ("dir", "dir/file")] == times


# --- layers and descriptors ---------------------------------------------------------------------


def _opened() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_bad_layer_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, reason in (("none", "No such file"), ("file", "Not a directory")):
        with pytest.raises(BadLayerError, match=f"lowerdir .*{path}: {reason}"):
            Layer(os.fsencode(tmp_path / path), 1, Flavour.USER, FdPool(64))
    with pytest.raises(BadLayerError, match="upperdir"):
        Layer(b"/none", 0, Flavour.USER, FdPool(64))


def test_a_wide_and_deep_tree_needs_no_more_descriptors_than_the_pool_has(
    layers: Layers, open_tree: Open
) -> None:
    for number in range(3):
        for wide in range(60):
            layers.file(number, f"wide/{wide}/file")
        layers.file(number, "/".join(["deep"] * 150) + "/file")
    before = _opened()
    tree = open_tree(limit=1)
    for _ in range(2):
        assert len([path for path in shown(tree) if path.endswith("/file")]) == 61
        assert _opened() - before <= 64 + 3
    tree.close()
    assert _opened() == before


def test_descriptors_in_use_are_not_closed_by_the_pool(tmp_path: Path) -> None:
    pool = FdPool(64)
    layer = Layer(os.fsencode(tmp_path), 1, Flavour.USER, pool)
    parts = []
    for number in range(200):
        (tmp_path / str(number)).mkdir()
        parts.append(Part(layer, layer.root, b"%d" % number, pool))
    for start in range(0, 200, 32):
        recent = parts[start : start + 32]
        fds = [part.fd() for part in recent]
        for part, fd in zip(recent, fds, strict=True):
            assert os.path.samestat(os.fstat(fd), (tmp_path / part.name.decode()).stat())
    pool.close()
    layer.close()


def test_a_part_is_reached_again_under_its_new_place(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    pool = FdPool(64)
    layer = Layer(os.fsencode(tmp_path), 0, Flavour.USER, pool)
    a = Part(layer, layer.root, b"a", pool)
    b = Part(layer, a, b"b", pool)
    c = Part(layer, b, b"c", pool)
    inode = os.fstat(c.fd()).st_ino
    for part in (a, b, c):
        part.drop()
    os.rename(tmp_path / "a" / "b", tmp_path / "moved")
    b.parent, b.name = layer.root, b"moved"
    assert os.fstat(c.fd()).st_ino == inode
    assert c.path() == b"/moved/c"
    pool.close()
    layer.close()
    with pytest.raises(OSError, match="layer is closed"):
        a.fd()
