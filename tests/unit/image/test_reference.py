"""What real tools make is imported as it is: the stack shows what ``umoci unpack`` makes of it.

The kernel's overlayfs shows the stack here, so that nothing but the importer is under test.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import kernel
from tests.support.images import (
    Layout,
    buildah_image,
    have,
    named,
    run,
    skopeo_copy,
    umoci_image,
    umoci_unpack,
)
from tests.support.tars import dir_, file, opaque, symlink, tar, whiteout
from tests.support.trees import FIELDS, Tree, assert_same, snapshot
from unionfs.digest import Digest
from unionfs.image.importer import import_image
from unionfs.store.store import Store

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_kernel_overlay]
needs_tools = pytest.mark.skipif(
    have("umoci", "skopeo") is not None, reason=str(have("umoci", "skopeo"))
)
needs_buildah = pytest.mark.skipif(have("buildah") is not None, reason=str(have("buildah")))
NS = 1_000_000_000
# Of a file with two names, one of them hidden by a whiteout, the kernel counts both.
BUT_NLINK = [name for name in FIELDS if name != "nlink"]


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(str(tmp_path / "store")) as opened:
        yield opened


@contextmanager
def shown(store: Store, source: str, place: Path):
    """The image of *source*, imported and mounted read-only by the kernel."""
    image = import_image(store, source)
    # An empty directory on top: a single lower directory alone is no overlay.
    top = place / "empty"
    top.mkdir(exist_ok=True)
    stack = store.images.stack(image.id)
    st = os.stat(stack[0])
    os.chown(top, st.st_uid, st.st_gid)
    os.chmod(top, st.st_mode & 0o7777)
    for name in os.listxattr(stack[0]):
        if not name.startswith("trusted.overlay."):
            os.setxattr(top, name, os.getxattr(stack[0], name))
    os.utime(top, ns=(st.st_atime_ns, st.st_mtime_ns))
    target = place / "merged"
    target.mkdir(exist_ok=True)
    lowers = ":".join([str(top), *stack])
    kernel.mount(b"overlay", os.fsencode(target), b"overlay", 1, f"lowerdir={lowers}".encode())
    try:
        yield image, os.fsencode(target)
    finally:
        kernel.umount(os.fsencode(target))


def tree(path: bytes) -> Tree:
    return snapshot(path, stamp=lambda ns: ns // NS * NS)


def unpacked(layout: Path, reference: str, place: Path) -> Tree:
    """What umoci makes of an image, without the attribute that it leaves on what it touched."""
    return tree(os.fsencode(umoci_unpack(layout, reference, place)))


def first(root: Path) -> None:
    for name in ("etc", "usr/lib/deep", "var/cache", "opt/gone", "srv"):
        (root / name).mkdir(parents=True)
    (root / "etc" / "passwd").write_text("root:x:0:0\n")
    (root / "usr" / "lib" / "a").write_bytes(bytes(5000))
    os.link(root / "usr" / "lib" / "a", root / "usr" / "lib" / "b")
    (root / "bin").symlink_to("usr/bin")
    (root / "var" / "cache" / "x").touch()
    (root / "opt" / "gone" / "file").touch()
    (root / "srv" / "f").touch()
    os.mkfifo(root / "srv" / "pipe")
    os.mknod(root / "srv" / "null", 0o020666, os.makedev(1, 3))
    os.chmod(root / "usr" / "lib", 0o2755)
    os.chown(root / "etc" / "passwd", 12, 34)
    os.setxattr(root / "etc" / "passwd", "user.note", b"x\0y")
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(root / "usr" / "lib" / "a", "security.capability", capability)


def second(root: Path) -> None:
    (root / "opt" / "gone" / "file").unlink()
    (root / "opt" / "gone").rmdir()
    (root / "var" / "cache" / "x").unlink()
    (root / "var" / "cache").rmdir()
    (root / "var" / "cache").touch()  # a directory becomes a file
    (root / "srv" / "f").unlink()
    (root / "srv" / "f").mkdir()  # and a file a directory
    (root / "srv" / "f" / "inside").touch()
    (root / "usr" / "lib" / "deep" / "new").write_text("n")
    os.chmod(root / "etc", 0o700)


def third(root: Path) -> None:
    (root / "usr" / "lib" / "b").unlink()
    (root / "usr" / "lib" / "deep").rename(root / "usr" / "deeper")
    (root / "etc" / "passwd").write_text("changed\n")


@needs_tools
def test_an_image_of_umoci_in_every_format(store: Store, tmp_path: Path):
    layout = umoci_image(tmp_path, first, second, third)
    wanted = unpacked(layout, "made", tmp_path / "reference")
    assert b"var/cache" in wanted.nodes and b"srv/f/inside" in wanted.nodes
    archive = tmp_path / "archive.tar"
    docker = tmp_path / "docker.tar"
    zstd = tmp_path / "zstd"
    skopeo_copy(f"oci:{layout}:made", f"oci-archive:{archive}:made")
    skopeo_copy(f"oci:{layout}:made", f"docker-archive:{docker}:made:1")
    skopeo_copy(f"oci:{layout}:made", f"oci:{zstd}:made", "--dest-compress-format", "zstd")
    sources = [f"oci:{layout}:made", str(archive), str(docker), f"{zstd}:made"]
    chains = set()
    for source in sources:
        with shown(store, source, tmp_path) as (image, merged):
            assert_same(wanted, tree(merged), ("umoci", source), fields=BUT_NLINK)
            chains.add(image.chain_id)
        store.images.remove([image.id])
        assert store.layers.list() == []
    assert len(chains) == 1


@needs_tools
@needs_buildah
def test_an_image_of_buildah(store: Store, tmp_path: Path):
    context = tmp_path / "context"
    (context / "d" / "e").mkdir(parents=True)
    (context / "d" / "e" / "f").write_text("f")
    (context / "a").write_text("a")
    os.chmod(context / "d", 0o750)
    layout = buildah_image(
        tmp_path,
        "FROM scratch\nCOPY d /opt/d\nCOPY --chown=7:8 --chmod=4750 a /opt/d/e/a\nCOPY a /etc/\n"
        'ENV A=b\nUSER 7\nCMD ["/etc/a"]\n',
        context,
    )
    wanted = unpacked(layout, "built", tmp_path / "reference")
    with shown(store, f"oci:{layout}:built", tmp_path) as (image, merged):
        assert_same(wanted, tree(merged), ("umoci", "ours"))
    assert image.run_config["User"] == "7"
    assert len(image.diff_ids) == 3


@needs_tools
def test_directories_that_only_lower_layers_describe(store: Store, tmp_path: Path):
    layout = Layout(tmp_path / "image")
    xattrs = {"user.note": b"kept"}
    tars = [
        tar(
            dir_("./", mode=0o711, mtime=50),
            dir_("a/", mode=0o750, uid=3, gid=4, mtime=100, xattrs=xattrs),
            dir_("a/b/", mode=0o3701, mtime=200),
            dir_("a/b/c/", mode=0o700, mtime=300),
            dir_("gone/", mode=0o700, mtime=400),
            dir_("old/", mode=0o700, mtime=500),
            file("old/hidden", mtime=1),
        ),
        tar(file("a/b/c/new", b"1", mtime=600), whiteout("gone"), opaque("old")),
        tar(file("gone/again", b"2", mtime=700), file("a/more", mtime=800)),
        tar(dir_("a/b/", mode=0o555, mtime=900), file("a/b/x", mtime=1)),
        tar(file("a/b/c/last", mtime=950), symlink("a/b/s", "../..", mtime=960)),
    ]
    layout.index(layout.image(tars, **named("made")))
    wanted = unpacked(layout.path, "made", tmp_path / "reference")
    with shown(store, str(layout.path), tmp_path) as (image, merged):
        ours = tree(merged)
    # ``gone`` is made anew where nothing describes it: umoci says "now", and we, always the same,
    # the beginning of 1970. Where umoci applies a whiteout, its parent's time becomes "now" too.
    assert ours.nodes[b"gone"].mtime == 0
    assert ours.nodes[b"."].mtime == 50 * NS
    for path in (b"gone", b"."):
        ours.nodes[path] = replace(ours.nodes[path], mtime=wanted.nodes[path].mtime)
    assert_same(wanted, ours, ("umoci", "ours"))
    assert len(store.images.stack(image.id)) == 6


@needs_tools
def test_what_the_writer_makes_is_read_by_the_tools(store: Store, tmp_path: Path):
    from unionfs.image.writer import pack_layout

    root = tmp_path / "root"
    root.mkdir()
    first(root)
    change = tmp_path / "change"
    (change / "usr" / "lib").mkdir(parents=True)
    os.mknod(change / "usr" / "lib" / "a", 0o020000, 0)
    for compression in ("gzip", "none"):
        packed = tmp_path / compression
        manifest = pack_layout(
            str(packed),
            [str(root), str(change)],
            flavour=store.flavour,
            compression=compression,
            reference="packed",
        )
        wanted = unpacked(packed, "packed", tmp_path / f"reference-{compression}")
        with shown(store, f"oci:{packed}:packed", tmp_path) as (image, merged):
            assert_same(wanted, tree(merged), ("umoci", "ours"), fields=BUT_NLINK)
        assert image.manifest_digest == Digest.parse(str(manifest))
        run("skopeo", "inspect", f"oci:{packed}:packed")
