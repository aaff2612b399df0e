"""How much of layers was touched: layers on disk, and requests, with the answers written down."""

from __future__ import annotations

import pytest

from tests.support.stacks import Dir, File, Link, Symlink, Whiteout, build_stack
from tests.support.traced import asked
from unionfs.inspect.reads import Reads
from unionfs.inspect.stack import Source, numbered
from unionfs.inspect.touched import Holding, Share, called_in_events, holding, share, used_by_layer
from unionfs.union.layer import BadLayerError

STACK = [
    [File(b"d/a", size=1000), File(b"d/b", size=500), Link(b"d/c", b"d/b"), Symlink(b"l", b"d/a")],
    [Dir(b"e"), Whiteout(b"d/a"), File(b"d/b", size=30)],
]


@pytest.fixture
def source(scratch) -> Source:
    return Source("mount", numbered(build_stack(scratch + b"/s", STACK, writable=False).lowers))


@pytest.mark.needs_root
def test_what_layers_have(source):
    high, low = source.layers
    assert holding(source, high, ()) == Holding(1, 30, {})
    found = holding(source, low, {b"/d/c", b"/d/a", b"/l", b"/d", b"/none"})
    # A file with two names is two files, and its bytes count with the first of them.
    assert found == Holding(4, 1500, {b"/d/a": 1000, b"/d/c": 0, b"/l": 0})


@pytest.mark.needs_root
def test_what_was_read_of_them(source):
    reads = Reads()
    for event in (
        asked("lookup", "/d", layer="2"),
        asked("lookup", "/d/b", layer="2"),
        asked("getattr", "/d", layer="1"),
        asked("lookup", "/d/c", layer="1"),
        asked("readlink", "/l", layer="1", size=3),
        asked("read", "/d/c", layer="1", size=400),
        asked("read", "/d/c", layer="1", size=200, offset=300),
        asked("read", "/moved/x", layer="1", size=10),  # a directory of the layer, renamed
    ):
        reads.add(event)
    used = used_by_layer(reads)
    found = []
    for layer in source.layers:
        mine = used[called_in_events(layer)]
        found.append(share(holding(source, layer, {one.path for one in mine}), mine))
    high, low = found
    assert (high.seen, high.files, high.once, high.in_all) == (1, 0, 0, 0)
    assert (low.seen, low.files, low.once, low.in_all) == (3, 3, 510, 610)
    assert high + low == Share(Holding(5, 1530), 4, 3, 510, 610)
    unknown = share(None, used["2"])
    assert (unknown.seen, (high + unknown).held) == (2, None)


@pytest.mark.needs_root
def test_a_layer_that_is_gone(source, scratch):
    gone = Source("mount", numbered([scratch + b"/gone"]))
    with pytest.raises(BadLayerError, match="gone"):
        holding(gone, gone.layers[0], ())
