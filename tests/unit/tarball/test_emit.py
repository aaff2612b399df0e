"""Layer directories as tars: what is in them, in which order, and what cannot be said."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import socket
import subprocess
import tarfile

import pytest

from tests.support import tars
from tests.support.layers import FLAVOUR, apply, directory, emit, snapshot
from unionfs.digest import Digest
from unionfs.ondisk.whiteout import make_whiteout
from unionfs.syscalls import xattr
from unionfs.tarball.emit import NotALayerError, emit_tree

LONG = "d" * 70 + "/" + "f" * 70


def listed(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [name + "/" * archive.getmember(name).isdir() for name in archive.getnames()]


def rich(tmp_path):
    return apply(
        tmp_path,
        tars.tar(
            tars.dir_("./", mode=0o755, mtime=3),
            tars.file("z", b"z", mode=0o4755, mtime=-5, pax={"mtime": "-5.25"}),
            tars.dir_("b", mode=0o700, mtime=7),
            tars.file("b/f", b"x" * 1000, xattrs={"user.a": b"\0\n", "user.b": b""}),
            tars.hardlink("b/g", "b/f"),
            tars.opaque("b"),
            tars.whiteout("b/gone"),
            tars.whiteout("a-gone"),
            tars.symlink("b/l", "t" * 200),
            tars.fifo("b/p"),
            tars.file(LONG, b"long"),
            tars.file(b"latin-\xe9", b"1"),
            tars.file(b"\xe9" * 120, b"2"),
            tars.file("equals", pax=tars.libarchive_xattr("user.a%3Db%25", b"v")),
            tars.file("far", mtime=2**33 + 1),
            tars.sparse_pax(
                "sparse", 1 << 20, [(8192, b"s" * 4096), (1 << 19, b"t" * 4096)], "1.0"
            ),
        ),
    )


def test_round_trip_of_everything(tmp_path):
    layer = rich(tmp_path)
    data = emit(layer.path)
    (tmp_path / "again").mkdir()
    again = apply(tmp_path / "again", data)
    assert snapshot(again.path) == snapshot(layer.path)
    assert emit(again.path) == data
    assert again.applied.implicit_dirs == ()
    assert again.applied.warnings == ()
    assert again.lstat("sparse").st_blocks == layer.lstat("sparse").st_blocks


def test_the_order(tmp_path):
    names = [os.fsencode(name) for name in listed(emit(rich(tmp_path).path))]
    assert names == [
        b"./", b".wh.a-gone", b"b/", b"b/.wh..wh..opq", b"b/.wh.gone", b"b/f", b"b/g", b"b/l",
        b"b/p", b"d" * 70 + b"/", LONG.encode(), b"equals", b"far", b"latin-\xe9", b"sparse", b"z",
        b"\xe9" * 120,
    ]  # fmt: skip


def test_the_digest_is_that_of_the_bytes(tmp_path):
    layer = rich(tmp_path)
    out = io.BytesIO()
    with directory(layer.path) as fd:
        digest = emit_tree(fd, out, flavour=FLAVOUR)
    assert digest == Digest.of(out.getvalue())
    assert digest.hex == hashlib.sha256(emit(layer.path)).hexdigest()


def test_other_readers_agree(tmp_path):
    """Python's tarfile and GNU tar see the same files in it."""
    layer = rich(tmp_path)
    (tmp_path / "layer.tar").write_bytes(emit(layer.path))
    (tmp_path / "gnu").mkdir()
    subprocess.run(
        [
            "tar",
            "-xpf",
            tmp_path / "layer.tar",
            "--xattrs",
            "--numeric-owner",
            "-C",
            tmp_path / "gnu",
        ],
        check=True,
        capture_output=True,
    )
    ours, theirs = snapshot(layer.path), snapshot(os.fsencode(tmp_path / "gnu"))
    for name in (
        b"z",
        b"b/f",
        b"b/g",
        b"b/l",
        b"b/p",
        LONG.encode(),
        b"latin-\xe9",
        b"sparse",
        b"far",
    ):
        assert theirs[name]._replace(xattrs={}) == ours[name]._replace(xattrs={}), name
    with tarfile.open(tmp_path / "layer.tar") as archive:
        for member in (m for m in archive if m.isreg() and ".wh." not in m.name):
            assert archive.extractfile(member).read() == ours[os.fsencode(member.name)].content


def test_mtime_max(tmp_path):
    layer = rich(tmp_path)
    with tarfile.open(fileobj=io.BytesIO(emit(layer.path, mtime_max=4))) as archive:
        times = {member.name: member.mtime for member in archive}
    assert times["far"] == times["b"] == 4
    assert times["z"] == -5.25


def test_large_owners_and_devices(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root to make owners and devices")
    layer = apply(
        tmp_path,
        tars.tar(
            tars.file("f", uid=2**32 - 2, gid=2**21),
            tars.char_device("c", 4095, 1048575, mode=0o600),
            tars.block_device("b", 7, 0),
        ),
    )
    (tmp_path / "again").mkdir()
    assert snapshot(apply(tmp_path / "again", emit(layer.path)).path) == snapshot(layer.path)


def test_driver_attributes_are_left_out_and_the_images_own_come_back(tmp_path):
    layer = apply(
        tmp_path, tars.tar(tars.file("f", xattrs={os.fsdecode(FLAVOUR.redirect): b"forged"}))
    )
    xattr.set_(layer.at("f"), FLAVOUR.origin, b"o")
    xattr.set_(layer.at("f"), b"user.fuseoverlayfs.origin", b"o")
    xattr.set_(layer.path, FLAVOUR.impure, b"y")
    with tarfile.open(fileobj=io.BytesIO(emit(layer.path))) as archive:
        records = {member.name: member.pax_headers for member in archive}
    name = "SCHILY.xattr." + os.fsdecode(FLAVOUR.redirect)
    assert {k: v for k, v in records["f"].items() if "xattr" in k} == {name: "forged"}
    assert not [k for k in records["."] if "xattr" in k]


@pytest.mark.needs_root
def test_an_empty_capability_is_left_out(tmp_path):
    """Everybody may set one on any file, and nobody can read it: the kernel says EINVAL."""
    layer = apply(tmp_path, tars.tar(tars.file("f", xattrs={"user.a": b"1"})))
    os.setxattr(layer.at("f"), "security.capability", b"")
    with tarfile.open(fileobj=io.BytesIO(emit(layer.path))) as archive:
        assert {n for n in archive.getmember("f").pax_headers if "xattr" in n} == {
            "SCHILY.xattr.user.a"
        }


def test_whiteouts_as_attributes(tmp_path):
    for name in ("gone", "here"):
        (tmp_path / name).touch()
    xattr.set_(os.fsencode(tmp_path), FLAVOUR.opaque, b"x")
    xattr.set_(os.fsencode(tmp_path / "gone"), FLAVOUR.whiteout, b"")
    assert listed(emit(tmp_path)) == ["./", ".wh.gone", "here"]


def test_what_a_tar_cannot_say(tmp_path):
    for name, mark in (("redirect", FLAVOUR.redirect), ("metacopy", FLAVOUR.metacopy)):
        place = tmp_path / name / "sub"
        place.mkdir(parents=True)
        (place / "f").touch()
        target = place if name == "redirect" else place / "f"
        xattr.set_(os.fsencode(target), mark, b"/elsewhere")
        with pytest.raises(NotALayerError, match="sub"):
            emit(tmp_path / name)
        shutil.rmtree(tmp_path / name)
    (tmp_path / ".wh.x").touch()
    with pytest.raises(NotALayerError, match="would read as a whiteout"):
        emit(tmp_path)


def test_sockets_are_left_out(tmp_path):
    old = os.open(".", os.O_RDONLY)
    os.chdir(tmp_path)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("s")
    finally:
        os.fchdir(old)
        os.close(old)
    assert listed(emit(tmp_path)) == ["./"]


def test_nothing_is_followed_and_no_descriptor_leaks(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "link").symlink_to(tmp_path / "outside")
    (tree / "a" / "file").symlink_to(tmp_path / "outside" / "secret")
    before = os.listdir("/proc/self/fd")
    data = emit(tree)
    assert listed(data) == ["./", "a/", "a/b/", "a/file", "a/link"]
    assert b"secret\0" not in data.replace(b"outside/secret\0", b"")
    with directory(tree / "a") as fd:
        make_whiteout(fd, b"w")
    (tree / "a" / ".wh.w").touch()
    with pytest.raises(NotALayerError):
        emit(tree)
    assert os.listdir("/proc/self/fd") == before


def test_umoci_unpacks_it(tmp_path):
    umoci = shutil.which("umoci")
    if umoci is None or os.geteuid() != 0:
        pytest.skip("needs root and umoci")
    layer = rich(tmp_path)
    (tmp_path / "l.tar").write_bytes(emit(layer.path))
    image = str(tmp_path / "image")
    for words in (
        ["init", "--layout", image],
        ["new", "--image", f"{image}:t"],
        ["raw", "add-layer", "--image", f"{image}:t", str(tmp_path / "l.tar")],
        ["unpack", "--image", f"{image}:t", str(tmp_path / "bundle")],
    ):
        subprocess.run([umoci, *words], check=True, capture_output=True)
    ours = snapshot(layer.path)
    theirs = snapshot(os.fsencode(tmp_path / "bundle" / "rootfs"))
    gone = {b"a-gone", b"b/gone"}
    assert set(theirs) == set(ours) - gone
    for name in set(ours) - gone - {b".", b"b", b"equals"}:
        assert theirs[name]._replace(xattrs={}) == ours[name]._replace(xattrs={}), name


def test_a_file_that_shrinks_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(b"x" * 100)
    monkeypatch.setattr(os, "pread", lambda *_: b"")
    with pytest.raises(Exception, match="became shorter"):
        emit(tmp_path)


def test_the_dsl_is_read_by_another_reader():
    """The tars that the tests build are tars: Python's tarfile reads the ordinary ones."""
    data = tars.tar(tars.file("a", b"1"), tars.dir_("d"), tars.symlink("d/l", "x" * 150))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.extractfile("a").read() == b"1"
        assert archive.getmember("d/l").linkname == "x" * 150
