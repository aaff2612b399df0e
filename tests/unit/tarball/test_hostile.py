"""Layers made to escape: whatever they say, nothing outside the layer changes.

Every test has a directory beside the layer with files worth changing; it is compared afterwards.
"""

from __future__ import annotations

import os
import stat

import pytest

from tests.support import tars
from tests.support.layers import Layer, apply, snapshot
from unionfs.errors import UnionfsError
from unionfs.tarball.limits import LimitError
from unionfs.tarball.names import UnsafeEntryError

TIME = 1_600_000_000


@pytest.fixture(autouse=True)
def outside(tmp_path):
    """The directory that must not change; its absolute path as bytes."""
    place = tmp_path / "outside"
    (place / "dir").mkdir(parents=True)
    (place / "passwd").write_text("root:x:0:0")
    (place / "dir" / "kept").write_text("kept")
    for name in ("passwd", "dir/kept", "dir", "."):
        os.utime(place / name, (TIME, TIME))
    before = snapshot(os.fsencode(place))
    beside = set(os.listdir(tmp_path)) | {"layer"}
    yield os.fsencode(place)
    assert snapshot(os.fsencode(place)) == before
    assert set(os.listdir(tmp_path)) <= beside


def refused(tmp_path, *members: bytes, match: str = "layer entry") -> None:
    with pytest.raises(UnsafeEntryError, match=match):
        apply(tmp_path, tars.tar(*members))


@pytest.mark.parametrize(
    "name", ["../outside/passwd", "a/../../outside/passwd", "..", "a/..", "./..", "/../x", "a/../b"]
)
@pytest.mark.parametrize("make", [tars.file, tars.dir_, tars.fifo, tars.whiteout])
def test_dot_dot(tmp_path, name, make):
    refused(tmp_path, make(name))


@pytest.mark.parametrize(
    "name", ["../outside/passwd", "a/../../outside/passwd", "..", "", "/", "."]
)
def test_dot_dot_in_hard_link_targets(tmp_path, name):
    refused(tmp_path, tars.dir_("a"), tars.hardlink("x", name))


def test_absolute_names_stay_inside(tmp_path, outside):
    layer = apply(
        tmp_path,
        tars.tar(
            tars.file(outside + b"/passwd", b"evil"),
            tars.file(b"///etc//./shadow", b"x"),
            tars.hardlink(b"/link", b"/etc/shadow"),
        ),
    )
    assert layer.read(outside[1:] + b"/passwd") == b"evil"
    assert layer.read("etc/shadow") == layer.read("link") == b"x"


@pytest.mark.parametrize(
    "links",
    [
        [("a", "{outside}")],
        [("a", "../outside")],
        [("b", ".."), ("a", "b/outside")],
        [("c", "{outside}"), ("b", "c"), ("a", "b")],
        [("a", "/" * 3000 + "{outside}")],
    ],
)
@pytest.mark.parametrize(
    "below",
    [
        tars.file("a/passwd", b"evil"),
        tars.file("a/new", b"evil"),
        tars.dir_("a/dir", mode=0o777),
        tars.dir_("a/newdir/deep"),
        tars.symlink("a/passwd", "x"),
        tars.hardlink("a/passwd", "plain"),
        tars.hardlink("stolen", "a/passwd"),
        tars.whiteout("a/passwd"),
        tars.opaque("a"),
        tars.fifo("a/fifo"),
    ],
)
def test_nothing_goes_through_a_link(tmp_path, outside, links, below):
    made = [tars.symlink(name, to.format(outside=os.fsdecode(outside))) for name, to in links]
    refused(tmp_path, tars.file("plain"), *made, below)


def test_a_directory_entry_replaces_a_link_and_never_follows_it(tmp_path, outside):
    layer = apply(
        tmp_path,
        tars.tar(
            tars.symlink("a", outside),
            tars.dir_("a", mode=0o777, uid=7, mtime=1, xattrs={"user.x": b"y"}),
            tars.file("a/passwd", b"evil"),
        ),
    )
    assert layer.read("a/passwd") == b"evil"
    assert stat.S_ISDIR(layer.lstat("a").st_mode)


@pytest.mark.parametrize(
    ("member", "kind"),
    [
        (tars.file("a", b"evil", mode=0o777, xattrs={"user.x": b"y"}), stat.S_IFREG),
        (tars.symlink("a", "elsewhere", mtime=9), stat.S_IFLNK),
        (tars.fifo("a", mode=0o777), stat.S_IFIFO),
        (tars.hardlink("a", "plain"), stat.S_IFREG),
    ],
)
def test_an_entry_replaces_a_link_and_never_writes_through_it(tmp_path, outside, member, kind):
    link = tars.symlink("a", outside + b"/passwd")
    layer = apply(tmp_path, tars.tar(tars.file("plain", b"p"), link, member))
    st = layer.lstat("a")
    assert stat.S_IFMT(st.st_mode) == kind
    assert kind != stat.S_IFLNK or os.readlink(layer.at("a")) == b"elsewhere"


def test_metadata_of_a_link_is_the_links_own(tmp_path, outside):
    layer = apply(tmp_path, tars.tar(tars.symlink("a", outside + b"/passwd", mtime=5, uid=0)))
    assert layer.lstat("a").st_mtime == 5


def test_a_hard_link_entry_changes_nothing_of_its_target(tmp_path, outside):
    """CVE-2021-32760: mode and owner of the link entry were applied to what it led to."""
    layer = apply(
        tmp_path,
        tars.tar(
            tars.symlink("s", outside + b"/passwd", mtime=5),
            tars.file("f", b"x", mode=0o600, mtime=5),
            tars.hardlink("hs", "s", mode=0o6777, uid=9, mtime=9),
            tars.hardlink("hf", "f", mode=0o6777, uid=9, mtime=9),
        ),
    )
    assert os.readlink(layer.at("hs")) == outside + b"/passwd"
    assert stat.S_IMODE(layer.lstat("hf").st_mode) == 0o600
    assert layer.lstat("hf").st_mtime == layer.lstat("hs").st_mtime == 5
    assert layer.lstat("hf").st_ino == layer.lstat("f").st_ino


@pytest.mark.parametrize(
    "members",
    [
        [tars.hardlink("x", "missing")],
        [tars.hardlink("x", "later"), tars.file("later")],
        [tars.dir_("d"), tars.hardlink("x", "d")],
        [tars.hardlink("x", "no/such/dir")],
        [tars.hardlink("x", "x")],
        [tars.whiteout("w"), tars.hardlink("x", "w")],
        [tars.file("f"), tars.hardlink("x", "f/y")],
        [tars.file("d/f"), tars.hardlink("d", "d/f")],
    ],
)
def test_hard_links_to_what_the_layer_has_not_provided(tmp_path, members):
    refused(tmp_path, *members, match="hard link to")


def test_hard_links_to_host_paths(tmp_path, outside):
    refused(tmp_path, tars.hardlink("x", outside + b"/passwd"), match="hard link to")


def test_a_hard_link_whose_parent_has_no_entry(tmp_path):
    layer = apply(tmp_path, tars.tar(tars.file("f", b"x"), tars.hardlink("p/q/h", "f")))
    assert layer.lstat("p/q/h").st_nlink == 2
    assert layer.applied.implicit_dirs == (b".", b"p", b"p/q")


def test_a_hard_link_to_itself_is_left_alone(tmp_path):
    layer = apply(tmp_path, tars.tar(tars.file("f", b"x"), tars.hardlink("f", "f")))
    assert layer.read("f") == b"x"


def test_below_a_file(tmp_path):
    refused(tmp_path, tars.file("a"), tars.file("a/b"), match="is below")


@pytest.mark.parametrize("name", ["", "/", ".", "./", "././"])
def test_only_a_directory_can_be_the_root(tmp_path, name):
    refused(tmp_path, tars.file(name, b"x"))


@pytest.mark.parametrize(
    "name",
    [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh...", ".wh.a/b", "d/.wh.a/b/c",
     ".wh..wh..opq/x", "d/.wh..wh..opq/.wh..wh..opq"],
)  # fmt: skip
def test_bad_whiteouts(tmp_path, name):
    refused(tmp_path, tars.file(name))


@pytest.mark.parametrize("name", [".wh.a", ".wh..wh..opq"])
@pytest.mark.parametrize(
    "make",
    [tars.dir_, tars.fifo, lambda n: tars.symlink(n, "x"), lambda n: tars.char_device(n, 1, 3)],
)
def test_whiteouts_that_are_no_files(tmp_path, name, make):
    refused(tmp_path, make(name), match="whiteout but not a file")


def test_names_too_long_for_any_directory(tmp_path):
    refused(tmp_path, tars.file("x" * 256), match="over 255")
    (tmp_path / "layer").rmdir()
    refused(tmp_path, tars.file("d/" + "y" * 256 + "/f"), match="over 255")
    (tmp_path / "layer").rmdir()
    refused(tmp_path, tars.file("short"), tars.file("z" * 256), match="over 255")


@pytest.mark.parametrize("target", ["", "x" * 4096])
def test_link_targets_that_no_link_can_have(tmp_path, target):
    refused(tmp_path, tars.symlink("a", target), match="no link can have that target")


@pytest.mark.parametrize(
    "fields",
    [{"uid": 2**32}, {"gid": 2**32}, {"uid": 2**32 - 1}, {"uid": -1}, {"gid": -2},
     {"pax": {"uid": str(2**40)}}, {"pax": {"gid": str(2**64)}}],
)  # fmt: skip
def test_owners_that_no_file_can_have(tmp_path, fields):
    """CVE-2024-40635: 2^32 wrapped around to root."""
    refused(tmp_path, tars.file("a", **fields), match="impossible owner")


@pytest.mark.parametrize("numbers", [(4096, 0), (0, 1 << 20), (-1, 0)])
def test_devices_that_no_kernel_knows(tmp_path, numbers):
    refused(tmp_path, tars.block_device("a", *numbers), match="no kernel knows")


def test_very_deep_paths(tmp_path):
    """Beyond PATH_MAX and the recursion limit; replaced by a file, so removed again."""
    deep = "deep/" * 1100
    layer = apply(tmp_path, tars.tar(tars.file(deep + "f", b"x"), tars.file("deep", b"flat")))
    assert layer.read("deep") == b"flat"


def test_metadata_beyond_path_max(tmp_path):
    name = "n" * 250
    deep = f"{name}/" * 40
    layer = apply(tmp_path, tars.tar(tars.dir_(deep, mode=0o700, mtime=7), tars.file(deep + "f")))
    assert len(layer.applied.implicit_dirs) == 40  # the root too, and not the deepest
    fd = os.open(layer.path, os.O_RDONLY)
    for _ in range(40):
        step = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = step
    assert os.fstat(fd).st_mtime == 7
    assert os.listdir(fd) == ["f"]
    os.close(fd)


def test_paths_longer_than_the_limit(tmp_path):
    with pytest.raises(LimitError, match="max_path"):
        apply(tmp_path, tars.tar(tars.file("d/" * 9000 + "f")))


def test_descriptors_do_not_leak(tmp_path):
    before = os.listdir("/proc/self/fd")
    many = [tars.file(f"d{n}/f") for n in range(140)]
    layer = apply(tmp_path, tars.tar(*many))
    assert len(layer.names()) == 280
    for index, bad in enumerate((tars.file("../x"), tars.header("x", b"0", checksum=1))):
        place = tmp_path / "layer" / f"bad{index}"
        place.mkdir()
        with pytest.raises(UnionfsError):
            apply(place, tars.tar(*many, bad))
    assert os.listdir("/proc/self/fd") == before


def test_later_entries_win(tmp_path):
    layer: Layer = apply(
        tmp_path,
        tars.tar(
            tars.file("a", b"1", mode=0o600),
            tars.file("a", b"2", mode=0o640),
            tars.dir_("b"),
            tars.file("b/x/y"),
            tars.file("b", b"file"),
            tars.file("c"),
            tars.symlink("c", "d"),
            tars.dir_("d", mode=0o700),
            tars.file("d/kept", b"kept"),
            tars.dir_("d", mode=0o750, mtime=3),
            tars.file("f"),
            tars.hardlink("g", "f"),
            tars.file("f", b"new"),
        ),
    )
    assert layer.names() == {b"a", b"b", b"c", b"d", b"d/kept", b"f", b"g"}
    assert (layer.read("a"), layer.read("b"), layer.read("d/kept")) == (b"2", b"file", b"kept")
    assert stat.S_IMODE(layer.lstat("d").st_mode) == 0o750
    assert layer.lstat("d").st_mtime == 3
    assert (layer.read("f"), layer.read("g")) == (b"new", b"")
