"""The merged index of an image: when it is made, used, and gone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.command import Cli

pytestmark = [pytest.mark.needs_fuse]

LAYERS = "each layer is read"


@pytest.fixture
def own(tmp_path: Path, tiny: Path) -> Cli:
    """A store of this test's own, with the image ``tiny``."""
    cli = Cli(tmp_path / "store")
    cli("image", "import", f"rootfs:{tiny}", "--name", "tiny")
    yield cli
    cli.tidy()


def indexes(cli: Cli) -> list[Path]:
    return list((cli.root / "indexes").glob("*/*"))


def lookups(cli: Cli, target: Path, *words: str) -> tuple[str, str]:
    """Mount the image with *words* and return how the daemon looks names up, and why so."""
    cli("mount", "--image", "tiny", str(target), *words)
    try:
        assert (target / "etc").is_dir()
        modes = cli.json("stats", str(target))["modes"]
    finally:
        cli("umount", str(target))
    (found,) = (mode for mode in modes if mode["mode"] == "lookup")
    return found["is"], found["because"]


def test_an_import_makes_it_and_mounts_use_it(own: Cli, target: Path) -> None:
    assert len(indexes(own)) == 1
    assert lookups(own, target) == ("merged index", "")
    assert lookups(own, target, "-o", "merged_index=off") == (LAYERS, "merged_index=off")
    assert lookups(own, target, "-o", "merged_index=auto") == ("merged index", "")
    said = own.fails("mount", "--image", "tiny", str(target), "-o", "merged_index=on", status=2)
    assert said == "option merged_index: 'on' is neither auto nor off"


def test_a_commit_makes_one_and_the_last_image_takes_it_along(own: Cli, target: Path) -> None:
    own("create", "tiny", "--name", "one")
    root = own("mount", "one").strip()
    subprocess.run(["sh", "-ec", "echo new > etc/new; mv etc moved"], cwd=root, check=True)
    own("commit", "one", "other")
    own("umount", "one")
    assert len(indexes(own)) == 2
    assert own("check") == "no faults\n"
    own("rm", "one")
    own("image", "rm", "other")
    assert len(indexes(own)) == 1
    own("image", "rm", "tiny")
    assert indexes(own) == []


def test_without_it_check_says_so_and_makes_it(own: Cli, target: Path) -> None:
    indexes(own)[0].unlink()
    missing = "the image has none: unionfs check --repair makes it"
    assert lookups(own, target) == (LAYERS, missing)
    note = "note: image tiny:latest: has no index of what its layers show: its mounts are slower"
    assert own("check").splitlines() == [note, "no faults"]
    assert own("check", "--repair").splitlines() == [note + " -- made it", "no faults"]
    assert lookups(own, target) == ("merged index", "")


def test_a_copied_store_s_layers_are_read(own: Cli, target: Path, tmp_path: Path) -> None:
    """Its files have other inode numbers than those in the index."""
    copied = Cli(tmp_path / "copied")
    subprocess.run(["cp", "-a", own.root, copied.root], check=True)
    assert lookups(copied, target)[0] == LAYERS
    copied("check", "--repair")
    assert lookups(copied, target) == ("merged index", "")


def test_what_nothing_refers_to_is_collected(own: Cli) -> None:
    (found,) = indexes(own)
    shutil.copy(found, found.with_name("0" * 64))
    assert f"index sha256:{'0' * 64}" in own("gc", "--dry-run")
    own("gc")
    assert indexes(own) == [found]
