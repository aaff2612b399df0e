"""What the layers of an image do: written answers, and agreement with the merged tree."""

from __future__ import annotations

import itertools
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from tests.support.anatomy import make_store
from tests.support.examples import COUNT, FULL, common_settings
from tests.support.explaining import every_path, plain_source
from tests.support.stacks import Dir, File, Link, Whiteout, build_stack, rich_stack
from tests.support.strategies import stacks
from unionfs.container.layers import whole_image
from unionfs.inspect.anatomy import Act, Event, events
from unionfs.inspect.compare import Difference, differences
from unionfs.inspect.stack import Source, Stack
from unionfs.inspect.totals import Totals, add_up, by_hider
from unionfs.store.store import Store
from unionfs.union.node import Node

_number = itertools.count()


def _events(source: Source) -> list[Event]:
    with Stack(source) as stack:
        return list(events(stack))


def _lower(stack, folder: bytes) -> Source:
    layers = build_stack(folder, stack, writable=False)
    return replace(plain_source(layers), aufs=False)


@pytest.fixture(scope="module")
def totals(tmp_path_factory: pytest.TempPathFactory) -> Totals:
    root = tmp_path_factory.mktemp("anatomy") / "store"
    image = make_store(root)
    with Store.open(str(root)) as store:
        source, opaque = whole_image(store, image)
    with Stack(source) as stack:
        return add_up(source.layers, events(stack, opaque))


def test_what_each_layer_does(totals: Totals) -> None:
    done = [
        [(tally.paths, tally.bytes) for tally in (layer.added, layer.changed, layer.deleted)]
        for layer in totals.layers
    ]
    assert done == [
        [(12, 8 + 8 + 11 + 100 + 200 + 50), (0, 0), (0, 0)],
        [(5, 1000 + 4), (0, 0), (0, 0)],
        [(1, 10), (1, 8), (5, 100 + 200 + 1000 + 50)],
        [(1, 3), (2, 8 + 8), (0, 0)],
    ]


def test_what_is_wasted_and_by_whom(totals: Totals) -> None:
    waste = [(o.path, o.bytes, o.layer.number, o.hider.number, o.act) for o in totals.waste]
    assert waste == [
        (b"/app/data", 1000, 2, 3, Act.DELETED),
        (b"/usr/share/doc/b", 200, 1, 3, Act.DELETED),
        (b"/usr/share/doc/a", 100, 1, 3, Act.DELETED),
        (b"/opt/tool", 50, 1, 3, Act.DELETED),
        (b"/bin/sh", 8, 1, 4, Act.CHANGED),
        (b"/etc/motd", 8, 1, 3, Act.CHANGED),
        (b"/etc/motd", 8, 3, 4, Act.CHANGED),
    ]
    assert totals.wasted == 1374
    assert totals.wasted_percent == pytest.approx(100 * 1374 / (377 + 1004 + 18 + 19))
    assert {layer.number: lost for layer, lost in by_hider(totals).items()} == {3: 1358, 4: 16}


def test_a_layer_whose_root_hides_everything(tmp_path: Path) -> None:
    source = _lower([[File(b"a", size=7)], [File(b"b", size=5)]], os.fsencode(tmp_path / "s"))
    with Stack(source) as stack:
        found = add_up(source.layers, events(stack, frozenset([source.layers[0].path])))
    assert [(one.path, one.bytes) for one in found.waste] == [(b"/a", 7)]


@pytest.mark.needs_root
def test_a_file_is_lost_with_its_last_name(tmp_path: Path) -> None:
    low = [File(b"a", size=100), Link(b"b", b"a"), File(b"c", size=10), Link(b"d/e", b"c")]
    stack = [low, [Whiteout(b"a"), Whiteout(b"c")], [Whiteout(b"d")]]
    source = _lower(stack, os.fsencode(tmp_path / "s"))
    found = add_up(source.layers, _events(source))
    assert found.size == 110
    assert [(one.path, one.bytes, one.hider.number) for one in found.waste] == [(b"/d/e", 10, 3)]


@pytest.mark.needs_root
def test_what_comes_back_in_an_opaque_directory_is_changed(tmp_path: Path) -> None:
    stack = [
        [File(b"d/same", size=5), File(b"d/gone", size=6), File(b"d/sub/deep", size=7)],
        [Dir(b"d", opaque=True), File(b"d/same", size=8), Dir(b"d/sub", 0o700)],
    ]
    top = [e for e in _events(_lower(stack, os.fsencode(tmp_path / "s"))) if e.layer.number == 2]
    assert [(e.act, e.path, e.size, e.lost) for e in top] == [
        (Act.DELETED, b"/d/gone", 6, 6),
        (Act.CHANGED, b"/d/same", 8, 5),
        (Act.CHANGED, b"/d/sub", 0, 0),
        (Act.DELETED, b"/d/sub/deep", 7, 7),
    ]


def _shown(stack: Stack) -> dict[bytes, bytes]:
    """Every path of the merged tree but the root, with the layer's directory that it is from."""
    found = {}
    pending: list[tuple[Node, bytes]] = [(stack.tree.root, b"")]
    while pending:
        node, path = pending.pop()
        for name, child in stack.tree.load(node).items():
            here = path + b"/" + name
            if child.is_dir:
                pending.append((child, here))
                found[here] = stack.tree.ready(child)[0].layer.path
            else:
                found[here] = child.source.layer.path
    return found


def _replayed(found: list[Event]) -> set[bytes]:
    shown: set[bytes] = set()
    places = {name.number: [] for name in {event.layer for event in found}}
    for event in found:
        places[event.layer.number].append(event)
    for number in sorted(places):
        for event in places[number]:
            if event.act is Act.ADDED:
                assert event.path not in shown
                shown.add(event.path)
            else:
                assert event.path in shown
                if event.act is Act.DELETED:
                    shown.remove(event.path)
    return shown


def _agrees(source: Source) -> None:
    found = _events(source)
    totals = add_up(source.layers, found)
    with Stack(source) as stack:
        shown = _shown(stack)
    assert _replayed(found) == shown.keys()
    hidden = 0
    for root in {layer.path for layer in source.layers}:
        for path in every_path(root):
            st = os.lstat(root + path)
            if stat.S_ISREG(st.st_mode) and shown.get(path) != root:
                hidden += st.st_size
    assert totals.wasted == hidden


@pytest.mark.needs_root
def test_the_last_layers_view_is_the_mount_s(tmp_path: Path) -> None:
    stack = [[e for e in layer if not isinstance(e, Link)] for layer in rich_stack()]
    _agrees(_lower(stack, os.fsencode(tmp_path / "s")))


@pytest.mark.needs_root
@settings(common_settings, max_examples=max(COUNT // 5, 10))
@given(stack=stacks())
def test_random_stacks(arena, stack):
    folder = arena + b"/a%d" % next(_number)
    _agrees(_lower(stack, folder))
    subprocess.run(["rm", "-rf", "--", folder], check=True)


def test_differences_of_two_trees(tmp_path: Path) -> None:
    base = [File(b"same"), File(b"d/content", b"a"), File(b"d/mode"), File(b"kind"), File(b"lost")]
    base += [File(b"gone/a"), File(b"becomes/x")]
    other = [File(b"same"), File(b"d/content", b"b"), File(b"d/mode", mode=0o600), Dir(b"kind")]
    other += [File(b"kind/inside"), File(b"new/deep/file"), File(b"becomes")]
    one = _lower([base], os.fsencode(tmp_path / "one"))
    two = _lower([other], os.fsencode(tmp_path / "two"))
    for root in (one.layers[0].path, two.layers[0].path):  # times are of no interest here
        for folder, folders, files in os.walk(root):
            for name in folders + files:
                os.utime(os.path.join(folder, name), ns=(0, 0), follow_symlinks=False)
    with Stack(one) as first, Stack(two) as second:
        found = list(differences(first, second))
    assert sorted(found, key=lambda d: d.path) == [
        Difference("C", b"/becomes", ("type",)),
        Difference("D", b"/becomes/x"),
        Difference("C", b"/d/content", ("content",)),
        Difference("C", b"/d/mode", ("mode",)),
        Difference("D", b"/gone"),
        Difference("D", b"/gone/a"),
        Difference("C", b"/kind", ("type",)),
        Difference("A", b"/kind/inside"),
        Difference("D", b"/lost"),
        Difference("A", b"/new"),
        Difference("A", b"/new/deep"),
        Difference("A", b"/new/deep/file"),
    ]
    with Stack(one) as first, Stack(one) as second:
        assert list(differences(first, second)) == []


_MEASURED = """
import sys, resource
from unionfs.inspect.anatomy import events
from unionfs.inspect.stack import Source, Stack, numbered
from unionfs.inspect.totals import add_up
source = Source("big", numbered([path.encode() for path in sys.argv[1:]]))
with Stack(source) as stack:
    totals = add_up(source.layers, events(stack))
used = resource.getrusage(resource.RUSAGE_SELF)
# Not ru_maxrss, which begins with the size of who started this process (getrusage(2), execve(2)).
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(totals.size, totals.wasted, int(peak.split()[1]) / 1e3, used.ru_utime + used.ru_stime)
"""


def test_a_large_image_takes_seconds_and_little_memory(tmp_path: Path) -> None:
    """5 GB in 100,000 files (the full run); memory in MB, time in seconds of processor."""
    folders = 1000 if FULL else 50
    roots = [tmp_path / "top", tmp_path / "low"]
    for place, root in enumerate(roots):
        for number in range(folders >> (1 - place) * 4):
            folder = root / f"d{number % 30}" / f"e{number}"
            folder.mkdir(parents=True)
            for name in range(100):
                with open(folder / f"file-{name}", "wb") as file:
                    file.truncate(50_000)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *map(str, roots)],
        stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    size, wasted, memory, seconds = map(float, done.stdout.split())
    assert size == 50_000 * 100 * (folders + (folders >> 4))
    assert wasted == 50_000 * 100 * (folders >> 4)
    assert memory < 200
    assert seconds < (30 if FULL else 10)
