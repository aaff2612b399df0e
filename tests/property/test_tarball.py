"""Any layer: applying what was emitted, and emitting what was applied, changes nothing.

And any bytes at all: an error of ours or a layer, never anything else, and nothing outside.
"""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import tars
from tests.support.layers import FLAVOUR, apply, directory, emit, snapshot
from unionfs.errors import UnionfsError
from unionfs.ondisk.flavour import Flavour
from unionfs.tarball.apply import apply_layer
from unionfs.tarball.limits import Limits
from unionfs.tarball.recipe import replay

QUICK = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

_BYTES = st.integers(1, 255).filter(lambda byte: byte != 0x2F)
plain_name = st.sampled_from([b"a", b"b", b"c", b".wha", b"x" * 120])
odd_name = st.lists(_BYTES, min_size=1, max_size=12).map(bytes)
leaf = (plain_name | odd_name).filter(
    lambda name: name not in (b".", b"..") and not name.startswith(b".wh.")
)
path = st.lists(leaf, min_size=1, max_size=4).map(b"/".join)
xattrs = st.dictionaries(
    odd_name.map(lambda name: b"user." + name.replace(b"=", b"-")),
    st.binary(max_size=40),
    max_size=2,
)
mtime = st.integers(-(2**31), 2**33).map(lambda seconds: {"mtime": b"%d.%09d" % (seconds, 5)}) | (
    st.just({})
)
mode = st.integers(0, 0o7777)
owner = st.integers(0, 2**32 - 2) if os.geteuid() == 0 else st.just(os.geteuid())
fields = st.fixed_dictionaries({"mode": mode, "uid": owner, "pax": mtime, "xattrs": xattrs})


def made(build, *more):
    return st.builds(lambda name, extra, *rest: build(name, *rest, **extra), path, fields, *more)


def _symlink(name, target, **extra):
    return tars.symlink(name, target, uid=extra["uid"], pax=extra["pax"])


def _fifo(name, **extra):
    return tars.fifo(name, mode=extra["mode"], pax=extra["pax"])


def _sparse(name, parts):
    offsets = [(n * 8192, bytes((n + 1,)) * 512) for n in sorted(set(parts))]
    return tars.sparse_pax(name, 200_000, offsets, "0.1")


member = st.one_of(
    made(tars.file, st.binary(max_size=2000)),
    made(tars.dir_),
    made(_symlink, path),
    made(_fifo),
    st.builds(tars.hardlink, path, path),
    st.builds(tars.whiteout, path),
    st.builds(tars.opaque, path),
    st.builds(_sparse, path, st.lists(st.integers(0, 20), max_size=5)),
)


device = st.builds(
    lambda name, extra, major, minor: tars.char_device(name, major, minor, mode=extra["mode"]),
    path,
    fields,
    st.integers(0, 4095),
    st.integers(0, (1 << 20) - 1),
)


def applied(data: bytes, where: Path, flavour: Flavour = FLAVOUR):
    """Return the layer, or None where the random tar is one that is refused."""
    where.mkdir()
    try:
        return apply(where, data, flavour=flavour)
    except UnionfsError:
        return None


@QUICK
@given(st.lists(member, max_size=12))
def test_a_layer_survives_emit_and_apply(members):
    with tempfile.TemporaryDirectory() as place:
        layer = None
        while layer is None:  # leave out what is refused: the rest must go round
            layer = applied(tars.tar(*members), Path(place, f"one{len(members)}"))
            members = members[:-1]
        data = emit(layer.path)
        again = applied(data, Path(place, "two"))
        assert snapshot(again.path) == snapshot(layer.path)
        assert again.applied.implicit_dirs == ()
        assert emit(again.path) == data


@pytest.mark.needs_root
@QUICK
@given(st.lists(member | device, max_size=12))
def test_an_ordinary_users_layer_says_what_roots_does(members):
    """What root imports and what is written down without privilege is the same image."""
    with tempfile.TemporaryDirectory() as place:
        data = tars.tar(*members)
        mine = applied(data, Path(place, "mine"), Flavour.USER)
        roots = applied(data, Path(place, "roots"), Flavour.TRUSTED)
        assert (mine is None) == (roots is None)
        if mine is not None:
            assert mine.applied == roots.applied
            assert emit(mine.path, Flavour.USER) == emit(roots.path, Flavour.TRUSTED)


hostile_name = st.lists(
    st.sampled_from([b"a", b"b", b"..", b".", b"", b".wh.a", b".wh..wh..opq", b".wh.", b"\xff"]),
    min_size=1,
    max_size=4,
).map(b"/".join)
kind = st.sampled_from([b"0", b"1", b"2", b"3", b"5", b"6", b"7", b"\0", b"S", b"L", b"x", b"Z"])
wild = st.builds(
    lambda name, kind, link, data: tars.entry(name, kind, data, link=link),
    hostile_name,
    kind,
    hostile_name | st.sampled_from([b"../outside", b"/etc", b"../outside/f"]),
    st.binary(max_size=600),
)


@QUICK
@given(st.lists(wild, max_size=8), st.integers(0, 4000), st.integers(0, 255))
def test_nothing_wild_gets_out(members, position, byte):
    data = bytearray(tars.tar(*members))
    data[position % len(data)] ^= byte
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "outside").mkdir()
        (place / "outside" / "f").write_text("kept")
        before = snapshot(os.fsencode(place / "outside"))
        applied(bytes(data), place / "in")
        assert snapshot(os.fsencode(place / "outside")) == before
        assert sorted(os.listdir(place)) == ["in", "outside"]
        assert os.listdir(place / "in") == ["layer"]


@QUICK
@given(st.lists(member | wild, max_size=10), st.integers(0, 4000), st.integers(0, 255))
def test_a_recipe_makes_the_same_bytes(members, position, byte):
    """Of every tar that is taken, however odd, unless it says that it cannot be done."""
    data = bytearray(tars.tar(*members))
    data[position % len(data)] ^= byte
    with tempfile.TemporaryDirectory() as place, directory(os.fsencode(place)) as fd:
        recipe, out = io.BytesIO(), io.BytesIO()
        try:
            found = apply_layer(
                io.BytesIO(data), fd, flavour=FLAVOUR, limits=Limits(), recipe=recipe
            )
        except UnionfsError:
            return
        if found.has_recipe:
            recipe.seek(0)
            assert replay(recipe, fd, out) == found.diff_id
            assert out.getvalue() == data
