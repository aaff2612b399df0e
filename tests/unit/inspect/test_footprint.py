"""Where the bytes are: written answers, and that nothing is lost on the way."""

from __future__ import annotations

from pathlib import Path

from tests.support.anatomy import make_store
from unionfs.container.layers import whole_image
from unionfs.inspect.anatomy import events
from unionfs.inspect.footprint import Folder, Footprint
from unionfs.inspect.stack import Stack
from unionfs.inspect.totals import Totals, add_up
from unionfs.store.store import Store


def _walk(tmp_path: Path, most: int) -> tuple[Footprint, Totals]:
    make_store(tmp_path / "store")
    with Store.open(str(tmp_path / "store")) as store:
        source, opaque = whole_image(store, store.images.resolve("anatomy"))
    footprint = Footprint(source.layers, most)
    with Stack(source) as stack:
        return footprint, add_up(source.layers, footprint.noting(events(stack, opaque)))


def _at(folder: Folder, *names: bytes) -> tuple[int, int, int]:
    for name in names:
        folder = folder.folders[name]
    return folder.size, folder.lost, folder.files


def test_each_layer_and_all_together(tmp_path: Path) -> None:
    footprint, totals = _walk(tmp_path, 3)
    lowest, *_, highest = footprint.layers.values()
    assert _at(lowest, b"usr", b"share", b"doc") == (300, 300, 2)
    assert _at(lowest, b"etc") == (8 + 11, 8, 2)
    assert _at(highest, b"app") == (3, 0, 1)
    assert _at(footprint.whole, b"app") == (1000 + 4 + 3, 1000, 3)
    assert footprint.whole.size == totals.size
    assert footprint.whole.lost == totals.wasted
    assert [folder.size for folder in footprint.layers.values()] == [
        one.size for one in totals.layers
    ]


def test_the_largest_files_and_no_more(tmp_path: Path) -> None:
    footprint, _ = _walk(tmp_path, 3)
    assert [(one.size, one.path, one.layer.number) for one in footprint.largest] == [
        (1000, b"/app/data", 2), (200, b"/usr/share/doc/b", 1), (100, b"/usr/share/doc/a", 1),
    ]  # fmt: skip
