"""Whiteouts hide what is below, and nothing of their own layer, wherever they stand in the tar."""

from __future__ import annotations

import itertools
import os

import pytest

from tests.support import tars
from tests.support.layers import apply


def test_a_whiteout_and_an_opaque_directory(tmp_path):
    layer = apply(
        tmp_path, tars.tar(tars.whiteout("gone"), tars.whiteout("p/q/gone"), tars.opaque("o"))
    )
    assert layer.is_whiteout("gone")
    assert layer.is_whiteout("p/q/gone")
    assert layer.is_opaque("o")
    assert not layer.is_opaque("p")
    assert layer.applied.implicit_dirs == (b".", b"o", b"p", b"p/q")
    assert not layer.applied.root_opaque


def test_an_opaque_root_is_reported(tmp_path):
    layer = apply(tmp_path, tars.tar(tars.file("a"), tars.opaque("")))
    assert layer.applied.root_opaque
    assert layer.is_opaque(".")
    assert layer.names() == {b"a"}


@pytest.mark.parametrize(
    "order", list(itertools.permutations([tars.dir_("d"), tars.file("d/x"), tars.opaque("d")]))
)
def test_opaque_anywhere_keeps_the_siblings(tmp_path, order):
    layer = apply(tmp_path, tars.tar(*order))
    assert layer.is_opaque("d")
    assert layer.names() == {b"d", b"d/x"}
    assert layer.applied.implicit_dirs == (b".",)


@pytest.mark.parametrize(
    "order", list(itertools.permutations([tars.dir_("d"), tars.file("d/x"), tars.whiteout("d")]))
)
def test_a_whiteout_of_a_directory_of_the_same_layer(tmp_path, order):
    layer = apply(tmp_path, tars.tar(*order))
    assert layer.is_opaque("d")
    assert layer.names() == {b"d", b"d/x"}


@pytest.mark.parametrize("member", [tars.file("f", b"x"), tars.symlink("f", "x"), tars.fifo("f")])
@pytest.mark.parametrize("first", [True, False])
def test_a_whiteout_of_a_file_of_the_same_layer(tmp_path, member, first):
    hide = tars.whiteout("f")
    layer = apply(tmp_path, tars.tar(*((hide, member) if first else (member, hide))))
    assert not layer.is_whiteout("f")
    assert layer.names() == {b"f"}


def test_a_directory_that_replaces_a_file_of_its_layer_hides_what_the_file_hid(tmp_path):
    layer = apply(tmp_path, tars.tar(tars.file("d"), tars.dir_("d"), tars.file("d/x")))
    assert layer.is_opaque("d")


def test_whiteouts_twice(tmp_path):
    layer = apply(tmp_path, tars.tar(tars.whiteout("a"), tars.whiteout("a"), tars.opaque("d")))
    assert layer.is_whiteout("a")


def test_aufs_housekeeping_is_ignored_and_its_whiteouts_may_be_links(tmp_path):
    layer = apply(
        tmp_path,
        tars.tar(
            tars.file(".wh..wh.aufs"),
            tars.dir_(".wh..wh.plnk"),
            tars.file(".wh..wh.plnk/12.34", b"x"),
            tars.dir_("d/.wh..wh.orph"),
            tars.hardlink(".wh.gone", ".wh..wh.aufs"),
        ),
    )
    assert layer.names() == {b"gone"}
    assert layer.is_whiteout("gone")
    assert "housekeeping of AUFS ignored: 4" in layer.applied.warnings[0]


def test_names_that_only_contain_the_prefix(tmp_path):
    layer = apply(tmp_path, tars.tar(tars.file("x.wh.y"), tars.file(".whatever"), tars.file(".wh")))
    assert layer.names() == {b"x.wh.y", b".whatever", b".wh"}


def test_longest_whiteouts(tmp_path):
    layer = apply(tmp_path, tars.tar(tars.whiteout("n" * 251), tars.file("n" * 255)))
    assert layer.is_whiteout("n" * 251)


def test_whiteouts_below_a_file_that_replaced_a_directory(tmp_path):
    """umoci writes these: ``a`` was a directory below, and became a file."""
    for members in (
        [tars.file("a", b"1"), tars.whiteout("a/x"), tars.whiteout("a/b/y"), tars.opaque("a")],
        [tars.fifo("a"), tars.whiteout("a/x")],
    ):
        layer = apply(tmp_path, tars.tar(*members))
        assert layer.names() == {b"a"}
        assert any("whiteout below" in line for line in layer.applied.warnings)
        os.rename(layer.path, layer.path + b".done%d" % len(members))


def test_a_directory_that_replaces_something_takes_nothing_from_below(tmp_path):
    members = [tars.whiteout("a"), tars.file("a/x"), tars.file("b/y"), tars.whiteout("b")]
    layer = apply(tmp_path, tars.tar(*members, tars.opaque("c")))
    assert layer.is_opaque("a")
    assert layer.is_opaque("b")
    assert layer.applied.implicit_dirs == (b".", b"c")
