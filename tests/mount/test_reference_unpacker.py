"""From an image file to a mounted root: the tree equals what ``umoci unpack`` makes of the image.

The whole path through the commands: import, create, mount; and the image mounted by itself. The
images are made by the tools that people use, in every format and compression.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command import Cli
from tests.support.images import (
    buildah_image,
    have,
    run,
    skopeo_copy,
    umoci_image,
    umoci_unpack,
)
from tests.support.stacks import IN_NAMESPACE, MARKS
from tests.support.tinyroot import make_root
from tests.support.trees import FIELDS, Tree, assert_same, snapshot
from unionfs.image.writer import pack_layout
from unionfs.ondisk.flavour import Flavour

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.skipif(
        have("umoci", "skopeo", "buildah") is not None,
        reason=str(have("umoci", "skopeo", "buildah")),
    ),
]

# Names that a layer hides stay counted: see tests/mount/parity/exceptions, tree.nlink.
_FIELDS = [field for field in FIELDS if field != "nlink"]
_STEPS = (
    "mv /opt/tree /opt/moved; rm /usr/data/gone; rm -rf /srv/dir; echo new > /srv/dir",
    "rm /srv/dir; mkdir -p /srv/dir/again; mv /etc/passwd /etc/old; cat /etc/group > /etc/passwd",
    "rm -rf /opt/moved/a; mkdir -p /opt/moved/a/b; mv /opt/moved/a/b /opt/b; "
    "rm -rf /usr/data; mkdir /usr/data",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root filesystem with a shell and something of everything in it."""
    root = tmp_path_factory.mktemp("base")
    make_root(str(root))
    _fill(root)
    return root


def _fill(root: Path) -> None:
    for name in ("opt/tree/a/b/c", "usr/data/sub", "srv/dir/inside", "var/empty"):
        (root / name).mkdir(parents=True)
    (root / "opt/tree/a/b/c/deep").write_text("deep")
    (root / "usr/data/gone").write_text("gone")
    (root / "usr/data/first").write_bytes(b"linked" * 2000)
    os.link(root / "usr/data/first", root / "usr/data/sub/second")
    (root / "srv/dir/inside/file").write_text("x")
    (root / "usr/link").symlink_to("../etc/passwd")
    os.mkfifo(root / "srv/pipe")
    if not IN_NAMESPACE:  # nobody makes devices there
        os.mknod(root / "dev/null", 0o020666, os.makedev(1, 3))
    os.chmod(root / "usr/data", 0o2755)
    os.chmod(root / "srv/dir/inside/file", 0o4711)
    os.chown(root / "srv/dir/inside/file", 12, 34)
    os.setxattr(root / "usr/data/gone", "user.note", b"n")
    os.setxattr(root / "opt/tree/a", "user.note", b"of a directory")
    (root / os.fsdecode(b"usr/data/not-\xff-utf8")).write_text("bytes")
    with open(root / "usr/data/sparse", "wb") as file:
        file.truncate(5_000_000)
        file.seek(2_000_000)
        file.write(b"island")


@pytest.fixture(scope="module")
def built(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout of four layers, by buildah: the base and a program's run for each other."""
    place = tmp_path_factory.mktemp("built")
    steps = "".join(f'RUN ["/bin/sh", "-ec", "{step}"]\n' for step in _STEPS)
    return buildah_image(place, f"FROM scratch\nCOPY . /\n{steps}", base)


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    return Cli(tmp_path_factory.mktemp("store") / "store")


@pytest.fixture(scope="module")
def wanted(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return _tree(umoci_unpack(built, "built", tmp_path_factory.mktemp("reference") / "u"))


def _tree(root: Path) -> Tree:
    """Return the tree as tar's headers of the tools have it: times in whole seconds."""
    return snapshot(os.fsencode(root), stamp=lambda ns: ns // 10**9)


def _check(cli: Cli, source: str, wanted: Tree, target: Path) -> None:
    """Import *source*; compare the image's mount and a container's, before and after a write."""
    image = cli("-q", "image", "import", source).strip()
    target.mkdir(exist_ok=True)
    try:
        cli("mount", "--image", image, str(target))
        assert_same(wanted, _tree(target), ("umoci", f"image of {source}"), fields=_FIELDS)
        cli("umount", str(target))
        container = cli("create", image).strip()
        cli("mount", container, str(target))
        assert_same(wanted, _tree(target), ("umoci", f"container of {source}"), fields=_FIELDS)
        (target / "etc/passwd").chmod(0o600)
        assert cli("diff", container).splitlines() == ["C /etc", "C /etc/passwd"]
        cli("umount", str(target))
        cli("rm", container)
        cli("mount", "--image", image, str(target))
        assert_same(wanted, _tree(target), ("umoci", "image afterwards"), fields=_FIELDS)
        cli("umount", str(target))
    finally:
        cli.tidy()
        cli("image", "rm", image)


FORMATS: dict[str, Callable[[Path], tuple[str, list[str]]]] = {
    "oci gzip": lambda to: (f"oci:{to}:x", ["--dest-compress-format", "gzip"]),
    "oci zstd": lambda to: (f"oci:{to}:x", ["--dest-compress-format", "zstd"]),
    "oci-archive": lambda to: (f"oci-archive:{to}:x", []),
    "docker-archive": lambda to: (f"docker-archive:{to}:x:1", []),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_of_skopeo(cli, built, wanted, tmp_path, name):
    where, options = FORMATS[name](tmp_path / "copy")
    skopeo_copy(f"oci:{built}:built", where, *options)
    _check(cli, where, wanted, tmp_path / "target")


def test_uncompressed_layers(cli, built, wanted, tmp_path):
    """skopeo's ``dir:`` with decompression, back into a layout."""
    skopeo_copy(f"oci:{built}:built", f"dir:{tmp_path / 'dir'}", "--dest-decompress")
    skopeo_copy(f"dir:{tmp_path / 'dir'}", f"oci:{tmp_path / 'plain'}:x")
    _check(cli, f"oci:{tmp_path / 'plain'}:x", wanted, tmp_path / "target")


def test_an_image_that_umoci_made(cli, tmp_path):
    def change(root: Path) -> None:
        (root / "opt/tree").rename(root / "opt/other")
        (root / "usr/data/gone").unlink()
        (root / "etc/passwd").write_text("changed\n")
        os.chown(root / "etc/passwd", 5, 6)

    layout = umoci_image(tmp_path, lambda root: (make_root(str(root)), _fill(root)), change)
    wanted = _tree(umoci_unpack(layout, "made", tmp_path / "reference"))
    _check(cli, f"oci:{layout}:made", wanted, tmp_path / "target")


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_what_our_own_writer_packs(cli, base, tmp_path, compression):
    change = tmp_path / "change"
    (change / "usr/data").mkdir(parents=True)
    (change / "etc").mkdir()
    os.mknod(change / "usr/data/gone", 0o020000, 0)
    os.setxattr(change / "etc", f"{MARKS}.overlay.opaque", b"y")
    (change / "etc/passwd").write_text("the only one\n")
    packed = tmp_path / "packed"
    layers = [str(base), str(change)]
    flavour = Flavour.USER if IN_NAMESPACE else Flavour.TRUSTED
    pack_layout(str(packed), layers, flavour=flavour, compression=compression, reference="p")
    run("skopeo", "inspect", f"oci:{packed}:p")
    if compression == "zstd":  # umoci reads none: it is given the same image by way of skopeo
        skopeo_copy(f"oci:{packed}:p", f"oci:{tmp_path / 'gzip'}:p", "--dest-compress-format=gzip")
    reference = tmp_path / "gzip" if compression == "zstd" else packed
    wanted = _tree(umoci_unpack(reference, "p", tmp_path / "reference"))
    _check(cli, f"oci:{packed}:p", wanted, tmp_path / "target")
