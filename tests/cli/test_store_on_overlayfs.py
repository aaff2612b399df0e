"""A store on the kernel's overlayfs, as in a container without a volume."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import kernel, leftovers, trees
from tests.support.command import Cli
from tests.support.images import Layout
from tests.support.mounts import KernelOverlay
from tests.support.stacks import Dir, build_stack
from tests.support.tars import dir_, file, hardlink, opaque, tar, whiteout

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.needs_kernel_overlay,
]

_BASE = tar(
    file("gone", b"1"),
    file("kept", b""),
    dir_("d"),
    file("d/gone", b"2"),
    file("d/kept", b"3"),
    dir_("o"),
    file("o/below", b"4"),
    dir_("deep"),
    dir_("deep/er"),
    file("deep/er/gone", b"5"),
    dir_("becomes"),
    file("becomes/x", b"6"),
)
_TOP = tar(
    whiteout("gone"),
    whiteout("d/gone"),
    file("d/new", b""),
    hardlink("d/newer", "d/new"),
    whiteout("o/below"),
    opaque("o"),
    file("o/above", b"7"),
    dir_("deep/er"),
    whiteout("deep/er/gone"),
    whiteout("becomes"),
    dir_("becomes"),
    file("becomes/y", b"8"),
)
_SHOWN = ["becomes", "becomes/y", "d", "d/kept", "d/new", "d/newer", "deep", "deep/er", "kept"]
_SHOWN += ["o", "o/above"]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """A directory of the kernel's overlayfs."""
    if not leftovers.in_own_namespace():
        kernel.own_mount_namespace()
    disk = tmp_path / "disk"
    disk.mkdir()
    kernel.mount(b"unionfs-test", os.fsencode(disk), b"tmpfs", 0, b"mode=755")
    below = build_stack(os.fsencode(disk / "host"), [[Dir(b"etc")]])
    with KernelOverlay(below, os.fsencode(tmp_path / "root"), options=b"index=off") as there:
        yield Path(os.fsdecode(there.root))
    kernel.umount(os.fsencode(disk))


def _import(cli: Cli, place: Path, *tars: bytes) -> None:
    place.mkdir()
    layout = Layout(place)
    layout.index(layout.image(tars))
    cli("image", "import", f"oci:{place}", "--name", "it")


def _below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_an_image_with_whiteouts(host: Path, tmp_path: Path) -> None:
    cli = Cli(host / "store")
    _import(cli, tmp_path / "layout", _BASE, _TOP)
    cli("image", "verify", "it")
    cli("create", "it", "--name", "one")
    root = Path(cli("mount", "one").strip())
    try:
        assert _below(root) == _SHOWN
        (root / "d/kept").unlink()
        (root / "kept").unlink()
        (root / "becomes/y").rename(root / "y")
        assert cli("diff", "one").split() == [
            *("C", "/becomes", "D", "/becomes/y", "C", "/d", "D", "/d/kept", "D", "/kept"),
            *("A", "/y"),
        ]
        before = trees.snapshot(os.fsencode(root))
    finally:
        cli("umount", "one")
    cli("check")
    cli("commit", "one", "two")
    cli("image", "verify", "two")
    target = tmp_path / "target"
    target.mkdir()
    cli("mount", "--image", "two", str(target))
    try:
        trees.assert_same(before, trees.snapshot(os.fsencode(target)), ("container", "image"))
    finally:
        cli("umount", str(target))
    _exported_is_the_same(cli, tmp_path)
    cli("rm", "one")


def _exported_is_the_same(cli: Cli, tmp_path: Path) -> None:
    """Through another store, on a filesystem that makes devices."""
    cli("image", "export", "two", f"oci:{tmp_path / 'out'}")
    other = Cli(tmp_path / "other")
    other("image", "import", f"oci:{tmp_path / 'out'}", "--name", "two")
    layers = [one["diff_id"] for one in cli.json("image", "inspect", "two")["layers"]]
    assert [one["diff_id"] for one in other.json("image", "inspect", "two")["layers"]] == layers


def test_a_root_that_becomes_opaque(host: Path, tmp_path: Path) -> None:
    """Its layer hides everything, so it keeps no whiteouts: they would show as files."""
    cli = Cli(host / "store")
    top = tar(whiteout("d/gone"), opaque(""), file("only", b"1"), whiteout("gone"))
    _import(cli, tmp_path / "layout", _BASE, top)
    target = tmp_path / "target"
    target.mkdir()
    cli("mount", "--image", "it", str(target))
    try:
        assert _below(target) == ["d", "only"]
    finally:
        cli("umount", str(target))
    cli("image", "verify", "it")
