"""A stack as of one of its layers: written answers."""

from __future__ import annotations

import os

import pytest

from tests.support.anatomy import make_store
from tests.support.explaining import plain_source
from tests.support.stacks import File, build_stack
from unionfs.container.subject import of_image
from unionfs.inspect.browse import View, find, sizes
from unionfs.inspect.stack import Source
from unionfs.store.store import Store


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    root = tmp_path_factory.mktemp("browse") / "store"
    make_store(root)
    with Store.open(str(root)) as store:
        return of_image(store, store.images.resolve("anatomy"))


def _said(source: Source, number: int, path: bytes) -> dict[str, tuple]:
    """What the view as of layer *number* has in *path*."""
    [place] = [at for at, layer in enumerate(source.layers) if layer.number == number]
    with View(source, place) as view:
        return {
            one.name.decode(): (one.state.value, one.size, one.touched)
            for one in view.entries(path)
        }


def test_each_layer_shows_what_it_did(source: Source) -> None:
    assert _said(source, 1, b"/etc") == {
        "motd": ("added", 8, False), "passwd": ("added", 11, False),
    }  # fmt: skip
    assert _said(source, 2, b"/etc")["motd"] == ("same", 8, False)
    assert _said(source, 3, b"/etc") == {
        "motd": ("changed", 8, False), "passwd": ("same", 11, False),
    }  # fmt: skip
    assert _said(source, 2, b"/app") == {
        "conf": ("added", 0, False), "data": ("added", 1000, False), "run": ("added", 4, False),
    }  # fmt: skip
    assert _said(source, 3, b"/app")["data"] == ("deleted", 1000, False)
    assert _said(source, 4, b"/app")["data"] == ("added", 3, False)
    assert _said(source, 3, b"/opt") == {
        "new": ("added", 10, False), "tool": ("deleted", 50, False),
    }  # fmt: skip


def test_directories(source: Source) -> None:
    root = _said(source, 3, b"/")
    assert root["usr"] == ("same", 0, True)
    assert root["bin"] == ("same", 0, False)
    assert _said(source, 3, b"/usr/share") == {"doc": ("deleted", 0, False)}
    assert _said(source, 3, b"/usr/share/doc") == {
        "a": ("deleted", 100, False), "b": ("deleted", 200, False),
    }  # fmt: skip
    assert _said(source, 4, b"/usr/share") == {}
    assert _said(source, 4, b"/no/such") == _said(source, 4, b"/etc/motd") == {}


def test_sizes_and_finding(source: Source) -> None:
    found = sizes(source, 0, lambda: True)
    assert found[b"/opt"] == 10 and found[b"/app"] == 7 and found[b"/usr"] == 0
    assert found[b"/"] == 8 + 8 + 11 + 7 + 10
    assert list(find(source, 0, b"MOTD", lambda: True)) == [b"/etc/motd"]
    last = len(source.layers) - 1
    assert set(find(source, last, b"t", lambda: True)) == {
        b"/etc", b"/opt", b"/etc/motd", b"/opt/tool",
    }  # fmt: skip
    assert list(find(source, 0, b"o", lambda: False)) == []


@pytest.mark.needs_root
def test_a_renamed_directory_is_new(scratch: bytes, overlay) -> None:
    """An upper that the kernel wrote, with a redirect and copied-up names."""
    layers = build_stack(scratch + b"/s", [[File(b"d/one"), File(b"d/two"), File(b"d2/two")]])
    root = overlay(layers).root
    os.rename(root + b"/d", root + b"/moved")
    os.chmod(root + b"/d2", 0o700)
    source = plain_source(layers)
    with View(source, 0) as view:
        states = {one.name: one.state.value for one in view.entries(b"/")}
        assert states == {b"d": "deleted", b"d2": "changed", b"moved": "added"}
        assert {one.state.value for one in view.entries(b"/moved")} == {"added"}
        assert {one.state.value for one in view.entries(b"/d")} == {"deleted"}
        assert {one.state.value for one in view.entries(b"/d2")} == {"same"}
    assert list(find(source, 0, b"one", lambda: True)) == [b"/moved/one"]
