"""The merged index: a tree that has it shows what one that reads its layers shows."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from unionfs.ondisk.flavour import Flavour
from unionfs.ondisk.whiteout import make_whiteout
from unionfs.union import layer as layer_module
from unionfs.union import merged as merged_module
from unionfs.union import tree as tree_module
from unionfs.union.layer import FdPool, Layer
from unionfs.union.merged import MergedIndex, NotIndexableError, write
from unionfs.union.metacopy import open_readable
from unionfs.union.node import Node
from unionfs.union.tree import Tree


@pytest.fixture
def lowers(tmp_path: Path) -> list[Path]:
    """Three layers, topmost first, with all that one can say of another."""
    layers = [tmp_path / name for name in ("top", "middle", "bottom")]
    for layer in layers:
        (layer / "all/same").mkdir(parents=True)
        (layer / "all/file").write_text(layer.name)
        (layer / "all" / layer.name).write_text(layer.name)
        (layer / "opaque/below").mkdir(parents=True)
        (layer / "opaque" / layer.name).write_text(layer.name)
    os.setxattr(layers[1] / "opaque", "user.overlay.opaque", b"y")
    (layers[0] / "was-file").mkdir()
    (layers[1] / "was-file").write_text("hidden")
    (layers[2] / "was-file").mkdir()
    (layers[1] / "was-directory").write_text("file")
    (layers[2] / "was-directory/x").mkdir(parents=True)
    (layers[2] / "gone/x").mkdir(parents=True)
    (layers[2] / "link").symlink_to("all")
    os.mkfifo(layers[2] / "fifo")
    (layers[2] / os.fsdecode(b"not-\xff-text")).write_text("bytes")
    whiteout(layers[1], "gone")
    whiteout(layers[0], "was-directory-of-nobody")
    return layers


def whiteout(layer: Path, name: str) -> None:
    fd = os.open(layer, os.O_RDONLY)
    make_whiteout(fd, os.fsencode(name))
    os.close(fd)


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    """An upper that hides, merges and renames."""
    upper = tmp_path / "upper"
    (upper / "all/same/new").mkdir(parents=True)
    (upper / "link").mkdir()
    (upper / "moved").mkdir()
    os.setxattr(upper / "moved", "user.overlay.redirect", b"/opaque")
    (upper / "again").mkdir()
    os.setxattr(upper / "again", "user.overlay.redirect", b"was-file")
    whiteout(upper, "opaque")
    whiteout(upper / "all", "file")
    return upper


def opened(lowers: list[Path], upper: Path | None = None) -> Tree:
    pool = FdPool(256)
    layers = [Layer(os.fsencode(upper), 0, Flavour.USER, pool)] if upper is not None else []
    layers += [
        Layer(os.fsencode(path), number, Flavour.USER, pool, plain=True)
        for number, path in enumerate(lowers, start=1)
    ]
    _trees.append(Tree(layers, pool))
    return _trees[-1]


_trees: list[Tree] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close what was opened: a later test may count its own descriptors."""
    yield
    while _trees:
        _trees.pop().close()


def shown(tree: Tree) -> dict[bytes, object]:
    """Return of every path its kind, its number, and the layers that have it."""
    found: dict[bytes, object] = {}
    pending = [tree.root]
    while pending:
        node = pending.pop()
        for child in tree.load(node).values():
            found[child.path()] = (stat.filemode(child.kind), child.born, _places(tree, child))
            if child.is_dir:
                pending.append(child)
    return found


def attributes(tree: Tree) -> dict[bytes, dict[str, object]]:
    """Return all that stat(2) says of every path; times in ns, as nobody asks for floats."""
    floats = ("st_atime", "st_mtime", "st_ctime")
    names = [name for name in dir(os.stat_result) if name.startswith("st_") and name not in floats]
    found = {}
    pending = [tree.root]
    while pending:
        node = pending.pop()
        for child in tree.load(node).values():
            st = tree.stat(child)
            found[child.path()] = {name: getattr(st, name) for name in names} | {"ten": tuple(st)}
            if child.is_dir:
                pending.append(child)
    return found


def _places(tree: Tree, node: Node) -> list[tuple[int, bytes, bool]]:
    if node.is_dir:
        return [(part.layer.number, part.path(), part.opaque) for part in tree.ready(node)]
    if node.source is None:
        return [(0, node.name, False)]
    return [(node.source.layer.number, node.source.path(), False)]


@pytest.fixture
def index(tmp_path: Path, lowers: list[Path]) -> bytes:
    path = tmp_path / "index"
    tree = opened(lowers)
    write(str(path), tree)
    tree.close()
    return os.fsencode(path)


@pytest.fixture
def no_lower_is_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = tree_module.scan

    def scan(part):
        assert part.layer.number == 0, "a lower directory was read"
        return real(part)

    monkeypatch.setattr(tree_module, "scan", scan)
    yield


def test_it_shows_what_the_layers_show(lowers: list[Path], index: bytes) -> None:
    plain, indexed = opened(lowers), opened(lowers)
    indexed.merged = MergedIndex.open(index, indexed.lowers())
    expected = shown(plain)
    assert shown(indexed) == expected
    assert b"/was-directory/x" not in expected and b"/not-\xff-text" in expected


def test_it_shows_the_same_below_an_upper(lowers: list[Path], upper: Path, index: bytes) -> None:
    plain, indexed = opened(lowers, upper), opened(lowers, upper)
    indexed.merged = MergedIndex.open(index, indexed.lowers())
    expected = shown(plain)
    assert shown(indexed) == expected
    assert b"/moved/top" in expected and b"/moved/bottom" not in expected
    for tree in (plain, indexed):
        at_all = tree.load(tree.root)[b"all"]
        tree.ready(at_all)
        shows = [tree.lower_shows(at_all, name) for name in (b"file", b"middle", b"new")]
        assert shows == [True, True, False]


def test_no_lower_directory_is_read(
    lowers: list[Path], upper: Path, index: bytes, no_lower_is_read: None
) -> None:
    tree = opened(lowers, upper)
    tree.merged = MergedIndex.open(index, tree.lowers())
    assert len(shown(tree)) > 10


def test_nothing_is_looked_ahead_at_that_the_index_says(
    lowers: list[Path], upper: Path, index: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directories of lowers are neither opened for that nor read from the disk."""
    monkeypatch.setattr(layer_module, "_MANY", 2)
    tree = opened(lowers, upper)
    looked: list[bytes] = []
    tree.pool.warm_up = lambda name, parents: looked.append(name)
    tree.merged = MergedIndex.open(index, tree.lowers())
    at_all = tree.load(tree.root)[b"all"]
    assert len(at_all.candidates) == 4
    tree.ready(at_all)
    assert not looked
    assert [part.held for part in at_all.parts[1:]] == [-1] * 3


def test_the_first_candidate_is_what_shows_a_directory(
    lowers: list[Path], upper: Path, index: bytes
) -> None:
    """Whoever does not need the others has not to read the directory's row."""
    (lowers[2] / "all/low/est").mkdir(parents=True)
    write(os.fsdecode(index) + "2", opened(lowers))
    for over in (None, upper):
        tree = opened(lowers, over)
        tree.merged = MergedIndex.open(index + b"2", tree.lowers())
        pending = [tree.root]
        while pending:
            below = [child for child in tree.load(pending.pop()).values() if child.is_dir]
            first = [child.candidates[0].layer.number for child in below]
            assert first == [tree.ready(child)[0].layer.number for child in below]
            pending += below


def test_it_holds_for_the_directories_that_it_was_made_of(
    tmp_path: Path, lowers: list[Path], index: bytes
) -> None:
    subprocess.run(["cp", "-a", lowers[1], tmp_path / "copy"], check=True)
    copied = opened([lowers[0], tmp_path / "copy", lowers[2]])
    assert MergedIndex.open(index, copied.lowers()) is None
    assert MergedIndex.open(index, opened(lowers[:2]).lowers()) is None
    assert MergedIndex.open(index, opened(lowers[::-1]).lowers()) is None


def test_it_has_the_attributes_of_every_file(
    lowers: list[Path], upper: Path, index: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(lowers[2] / "all/file", lowers[2] / "all/link")
    os.utime(lowers[2] / "fifo", ns=(-1_500_000_000, 4_000_000_000_123_456_789))
    os.chmod(lowers[1] / "all", 0o3751)
    write(os.fsdecode(index) + "2", opened(lowers))
    for over in (None, upper):
        plain, indexed = opened(lowers, over), opened(lowers, over)
        indexed.merged = MergedIndex.open(index + b"2", indexed.lowers())
        assert attributes(indexed) == attributes(plain)
    asked: list[bytes] = []
    monkeypatch.setattr(Tree, "raw_stat", lambda self, node: asked.append(node.path()))
    tree = opened(lowers)
    tree.merged = MergedIndex.open(index + b"2", tree.lowers())
    attributes(tree)
    assert asked == []


def test_owners_of_another_namespace_are_not_told(
    lowers: list[Path], index: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = opened(lowers)
    tree.merged = MergedIndex.open(index, tree.lowers())
    assert tree.merged is not None and tree.merged.has_attributes
    monkeypatch.setattr(merged_module, "in_initial_user_namespace", lambda: False)
    elsewhere = MergedIndex.open(index, tree.lowers())
    assert elsewhere is not None and not elsewhere.has_attributes
    elsewhere.close()
    write(os.fsdecode(index) + "2", opened(lowers))
    monkeypatch.undo()
    made_there = MergedIndex.open(index + b"2", tree.lowers())
    assert made_there is not None and not made_there.has_attributes
    made_there.close()


@pytest.mark.parametrize("damage", [b"", b"SQLite format 3\0 but not more", b"\0" * 5000])
def test_a_damaged_file_is_none(lowers: list[Path], index: bytes, damage: bytes) -> None:
    with open(index, "wb") as file:
        file.write(damage)
    assert MergedIndex.open(index, opened(lowers).lowers()) is None


def test_nobody_waits_for_what_took_a_files_place(lowers: list[Path], index: bytes) -> None:
    """The index says that it is a file; to open a fifo waits for who writes."""
    (lowers[0] / "all/file").unlink()
    os.mkfifo(lowers[0] / "all/file")
    other = os.open(lowers[0] / "all/file", os.O_RDWR)  # who waits all the same is not kept waiting
    tree = opened(lowers)
    tree.merged = MergedIndex.open(index, tree.lowers())
    try:
        node = tree.load(tree.load(tree.root)[b"all"])[b"file"]
        assert stat.S_ISREG(tree.stat(node).st_mode)
        with pytest.raises(OSError) as caught:
            open_readable(tree, node)
    finally:
        os.close(other)
    assert caught.value.errno == errno.EIO


LEASED = """
import fcntl, signal, sys
file = open(sys.argv[1], "r+b")
signal.signal(signal.SIGIO, lambda *_: fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK))
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("leased", flush=True)
sys.stdin.read()
"""


def test_whose_file_is_leased_is_waited_for(lowers: list[Path]) -> None:
    tree = opened(lowers)
    node = tree.load(tree.load(tree.root)[b"all"])[b"file"]
    words = [sys.executable, "-c", LEASED, lowers[0] / "all/file"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"leased\n"
        fd = open_readable(tree, node)
        assert os.read(fd, 9) == b"top"
        os.close(fd)


def test_a_missing_file_and_another_version_s_are_none(lowers: list[Path], index: bytes) -> None:
    assert MergedIndex.open(index + b"?x=%00", opened(lowers).lowers()) is None
    rows = sqlite3.connect(os.fsdecode(index))
    rows.execute("PRAGMA user_version = 99")
    rows.close()
    assert MergedIndex.open(index, opened(lowers).lowers()) is None


@pytest.mark.parametrize(
    ("mark", "value"), [("redirect", b"/all"), ("opaque", b"x")], ids=["redirect", "whiteouts"]
)
def test_layers_with_a_driver_s_marks_have_none(
    tmp_path: Path, lowers: list[Path], mark: str, value: bytes
) -> None:
    os.setxattr(lowers[0] / "all", f"user.overlay.{mark}", value)
    with pytest.raises(NotIndexableError, match="/top/all has marks"):
        write(str(tmp_path / "new"), opened(lowers))


def test_layers_with_a_time_that_is_too_late_have_none(tmp_path: Path, lowers: list[Path]) -> None:
    """Importing such an image ended in an internal error, after the image was there."""
    os.utime(lowers[1] / "all/file", ns=(0, 2**63 - 1))
    write(str(tmp_path / "latest"), opened(lowers))
    os.utime(lowers[0] / "all/top", (0, 14_000_000_000))
    with pytest.raises(NotIndexableError, match="/all/top has a time"):
        write(str(tmp_path / "new"), opened(lowers))
