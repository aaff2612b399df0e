"""A layer's tar comes out of its recipe byte for byte, whoever wrote it and however oddly."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest

from tests.support import tars
from tests.support.layers import FLAVOUR, directory
from unionfs.digest import Digest
from unionfs.tarball.apply import Applied, apply_layer
from unionfs.tarball.limits import Limits
from unionfs.tarball.recipe import LEAST, RecipeError, replay


def applied(tmp_path: Path, data: bytes) -> tuple[Applied, bytes]:
    """Apply *data* to ``layer``; return what became of it, and the recipe."""
    (tmp_path / "layer").mkdir()
    recipe = io.BytesIO()
    with directory(tmp_path / "layer") as fd:
        found = apply_layer(io.BytesIO(data), fd, flavour=FLAVOUR, limits=Limits(), recipe=recipe)
    return found, recipe.getvalue()


def again(tmp_path: Path, recipe: bytes) -> bytes:
    out = io.BytesIO()
    with directory(tmp_path / "layer") as fd:
        digest = replay(io.BytesIO(recipe), fd, out)
    assert digest == Digest.of(out.getvalue())
    return out.getvalue()


ODD = {
    "everything": tars.tar(
        tars.dir_("./"),
        tars.file("./a", b"1" * 700, mode=0o4755, mtime=-3),
        tars.file("/b/c//d", b"2" * 512),
        tars.hardlink("h", "a"),
        tars.symlink("s", "t" * 300),
        tars.fifo("p"),
        tars.whiteout("gone"),
        tars.opaque("b"),
        tars.file("x", b"3", xattrs={"user.a": b"\0="}),
        tars.file("n" * 200, b"4"),
        tars.file(b"latin-\xe9", b"5"),
        tars.sparse_pax("sparse", 1 << 20, [(8192, b"s" * 4096), (1 << 19, b"t" * 600)], "1.0"),
    ),
    "no end mark": tars.file("a", b"x" * 100),
    "zeros after the end": tars.tar(tars.file("a", b"x")) + bytes(1 << 20),
    "data after the end": tars.tar(tars.file("a", b"x")) + b"who knows" * 100,
    "a whiteout with content": tars.tar(tars.file(".wh.a", b"content")),
    "nothing": tars.tar(),
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD.keys())
def test_the_same_bytes(tmp_path: Path, data: bytes) -> None:
    found, recipe = applied(tmp_path, data)
    assert found.has_recipe
    assert again(tmp_path, recipe) == data
    assert len(recipe) < LEAST


def test_what_gnu_tar_writes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(300):
        place = source / str(number % 7) / ("d" * (number % 150 + 1))
        place.mkdir(parents=True, exist_ok=True)
        (place / f"f{number}").write_bytes(os.urandom(number * 37 % 3000))
    with open(source / "hole", "wb") as file:
        file.seek(5 << 20)
        file.write(b"end")
    for style in ("gnu", "pax", "ustar", "v7"):
        words = ["tar", f"--format={style}", "-C", source, "-cf", "-", "."]
        words += ["--sparse"] if style in ("gnu", "pax") else []
        data = subprocess.run(words, check=False, capture_output=True).stdout
        (tmp_path / style).mkdir()
        found, recipe = applied(tmp_path / style, data)
        assert found.has_recipe
        assert again(tmp_path / style, recipe) == data, style


def test_a_name_that_comes_twice_has_no_recipe(tmp_path: Path) -> None:
    found, _ = applied(tmp_path, tars.tar(tars.file("a", b"1"), tars.file("a", b"2")))
    assert not found.has_recipe


@pytest.mark.parametrize(
    "data",
    [
        tars.tar(tars.file(".wh.a", os.urandom(4 << 20))),  # content that is nowhere in the layer
        tars.tar(*(tars.file(os.urandom(40).hex()) for _ in range(3000))),  # names and no content
    ],
    ids=["content", "names"],
)
def test_a_recipe_that_is_too_long_is_none(tmp_path: Path, data: bytes) -> None:
    found, recipe = applied(tmp_path, data)
    assert not found.has_recipe
    assert len(recipe) < len(data)


def test_a_recipe_is_short(tmp_path: Path) -> None:
    """At most 2 % of the layer, beyond what a small one may have."""
    names = [f"usr/share/doc/package-{n % 90}/file-{n}.txt" for n in range(6000)]
    data = tars.tar(*(tars.file(name, b"content " * 200) for name in names))
    found, recipe = applied(tmp_path, data)
    assert found.has_recipe
    assert len(recipe) < len(data) / 100


def test_a_layer_that_changed_is_seen(tmp_path: Path) -> None:
    data = tars.tar(tars.file("d/a", b"1" * 100), tars.file("b", b"2"))
    _, recipe = applied(tmp_path, data)
    (tmp_path / "layer/d/a").write_bytes(b"x" * 100)
    assert again(tmp_path, recipe) != data
    (tmp_path / "layer/d/a").write_bytes(b"1")
    with pytest.raises(RecipeError, match="shorter than it was"):
        again(tmp_path, recipe)
    (tmp_path / "layer/d/a").unlink()
    with pytest.raises(RecipeError, match=r"b'd/a' is gone"):
        again(tmp_path, recipe)


def test_nothing_outside_the_layer_is_read(tmp_path: Path) -> None:
    data = tars.tar(tars.file("d/a", b"1" * 100))
    _, recipe = applied(tmp_path, data)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a").write_bytes(b"1" * 100)
    (tmp_path / "layer/d/a").unlink()
    (tmp_path / "layer/d").rmdir()
    (tmp_path / "layer/d").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecipeError, match="gone"):
        again(tmp_path, recipe)


@pytest.mark.parametrize("cut", [0, 5, 20, -10])
def test_a_damaged_recipe_is_an_error(tmp_path: Path, cut: int) -> None:
    _, recipe = applied(tmp_path, ODD["everything"])
    with pytest.raises(RecipeError):
        again(tmp_path, recipe[:cut])
    with pytest.raises(RecipeError):
        again(tmp_path, b"\0" + recipe)
