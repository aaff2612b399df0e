"""commit --rebase of a container of which the kernel has forgotten a part, or forgets it then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.command import Cli
from tests.support.kernel import forget

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


@pytest.fixture
def root(cli: Cli, tmp_path: Path) -> Path:
    """The mount of the container ``one``, of an image of one layer with nested directories."""
    rootfs = tmp_path / "rootfs"
    for name in ("a/b/c", "a/b2/c", "d"):
        (rootfs / name).mkdir(parents=True)
        (rootfs / name / "file").write_text(name)
    (rootfs / "d/link").hardlink_to(rootfs / "a/b/c/file")
    cli("image", "import", f"rootfs:{rootfs}", "--name", "nested")
    cli("create", "nested", "--name", "one")
    return Path(cli("mount", "one").strip())


def test_directories_below_one_that_changed(cli: Cli, root: Path) -> None:
    """They were told of by the extension, and came to Python by a change above them."""
    for path in root.rglob("*"):
        path.lstat()
    (root / "a/new").write_text("new")
    forget()
    cli("commit", "one", "two", "--rebase")
    assert (root / "a/b/c/file").read_text() == "a/b/c"
    assert (root / "a/new").read_text() == "new"
    assert cli("diff", "one") == ""


def test_another_name_of_a_file_that_is_in_use_is_listed_with_its_number(
    cli: Cli, root: Path
) -> None:
    with (root / "a/b/c/file").open("a") as file:
        file.write("more")
    with (root / "a/b/c/file").open():
        cli("commit", "one", "two", "--rebase")
        forget()
        numbers = {entry.name: entry.inode() for entry in os.scandir(root / "d")}
        assert {name: (root / "d" / name).lstat().st_ino for name in numbers} == numbers
