"""commit --rebase of a container that programs are at work in: they go on, and see no change."""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import leftovers, trees
from tests.support.command import Cli
from tests.support.kernel import own_mount_namespace, remembered
from tests.support.watching import watch

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

CHANGES = """
mv etc moved
echo changed >> moved/passwd
rm bin/sleep
mkdir -p deep/er/still
echo one > deep/er/one
ln deep/er/one deep/two
ln deep/er/one three
echo group >> moved/group
rm -r usr/share/doc && mkdir -p usr/share/doc && echo anew > usr/share/doc/anew
ln -s moved link
mkfifo deep/pipe
truncate -s 1M sparse && printf end >> sparse
printf 'to be removed' > removed
chmod 4755 sparse
"""
SAME = [*trees.FIELDS, "ino"]


@pytest.fixture
def root(cli: Cli) -> Iterator[Path]:
    """The mount of the container ``one``, where much has been changed."""
    if not leftovers.in_own_namespace():
        own_mount_namespace()
    cli("create", "tiny", "--name", "one")
    root = Path(cli("mount", "one").strip())
    (root / "usr/share/doc").mkdir(parents=True)
    (root / "usr/share/doc/old").write_text("old")
    (root / "etc").mkdir(exist_ok=True)
    for name in ("passwd", "group"):
        with (root / "etc" / name).open("a") as file:
            file.write("more\n")
    subprocess.run(["sh", "-ec", CHANGES], cwd=root, check=True)
    os.setxattr(root / "deep/er/one", "user.note", b"kept")
    yield root
    cli.tidy()
    for image in cli.json("image", "ls"):
        if image["names"] != ["tiny:latest"]:
            cli("image", "rm", "--force", image["id"])


@pytest.fixture(autouse=True)
def _remembered() -> Iterator[None]:
    """What the kernel had forgotten meanwhile would have the numbers of the new layer."""
    with remembered():
        yield


def seen(root: Path) -> trees.Tree:
    found = trees.snapshot(os.fsencode(root))
    assert not found.faults, found.faults
    return found


def same(before: trees.Tree, after: trees.Tree) -> None:
    assert [str(one) for one in trees.differences(before, after, fields=SAME)] == []


@pytest.fixture(params=["extension", "pure"])
def either(request: pytest.FixtureRequest, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """With requests for opening and closing files, and without."""
    if request.param == "pure":
        monkeypatch.setitem(cli.env, "UNIONFS_PURE", "1")


def ours(cli: Cli) -> list[str]:
    return sorted(os.listdir(cli.container("one")))


def test_nothing_changes_for_who_looks(cli: Cli, either: None, root: Path) -> None:
    before = seen(root)
    cli("commit", "one", "two", "--rebase")
    same(before, seen(root))
    assert cli("diff", "one") == ""
    assert os.listdir(cli.container("one") / "upper") == []
    assert ours(cli) == ["control", "log", "merged", "mount.lock", "upper", "work"]
    assert cli.json("inspect", "one")["image"] == "two:latest"
    assert "container one" in cli.fails("image", "rm", "two")


def test_what_was_only_listed_has_the_numbers_of_the_listing(cli: Cli, root: Path) -> None:
    (root / "bin").rename(root / "tools")
    numbers = {entry.name: entry.inode() for entry in os.scandir(root / "tools")}
    cli("commit", "one", "two", "--rebase")
    assert {entry.name: entry.inode() for entry in os.scandir(root / "tools")} == numbers
    assert {name: (root / "tools" / name).lstat().st_ino for name in numbers} == numbers


def test_a_file_of_which_another_name_was_only_listed(cli: Cli, root: Path) -> None:
    cli("commit", "one", "two", "--rebase")
    cli("umount", "one")
    cli("mount", "one")
    for name in ("three", "four", "five"):
        os.listdir(root)
        with (root / "deep/two").open("a") as file:
            file.write(name)
        cli("commit", "one", name, "--rebase")
    assert (root / "three").read_text() == "one\nthreefourfive"
    assert (root / "three").stat().st_ino == (root / "deep/two").stat().st_ino


def test_a_file_that_is_open_by_a_name_that_went(cli: Cli, either: None, root: Path) -> None:
    """In a lower layer and in the upper; nobody has looked its other names up."""
    cli("commit", "one", "two", "--rebase")
    (root / "fresh").write_text("one\n")
    (root / "other").hardlink_to(root / "fresh")
    cli("umount", "one")
    cli("mount", "one")
    files = [os.open(root / name, os.O_RDONLY) for name in ("three", "fresh")]
    for name in ("three", "fresh"):
        (root / name).unlink()
    cli("commit", "one", "three", "--rebase")
    for fd, name in zip(files, ("deep/two", "other"), strict=True):
        with (root / name).open("a") as file:
            file.write("more")
        assert os.pread(fd, 100, 0) == b"one\nmore"
        assert os.fstat(fd).st_ino == (root / name).stat().st_ino
        os.close(fd)
    assert (root / "deep/er/one").stat().st_nlink == 2


def test_it_goes_on_in_the_new_upper(cli: Cli, either: None, root: Path) -> None:
    """Hard links, renames and removals of what was changed before; once more; and another mount."""
    for name in ("two", "three"):
        cli("commit", "one", name, "--rebase")
        with (root / "deep/er/one").open("a") as file:
            file.write(name)
        assert (root / "three").read_text().endswith(name)
        (root / f"from-{name}").write_text(name)
        (root / "usr/share/doc/anew").write_text(name)
        (root / "moved").rename(root / "again")
        (root / "again").rename(root / "moved")
    (root / "moved/passwd").unlink()
    assert os.getxattr(root / "three", "user.note") == b"kept"
    assert "A /from-three" in cli("diff", "one")
    assert "from-two" not in cli("diff", "one")
    later = seen(root)
    cli("umount", "one")
    assert "no faults" in cli("check")
    cli("mount", "one")
    trees.assert_same(later, seen(root), ("before", "after"))
    cli("umount", "one")
    cli("commit", "one", "four")
    cli("mount", "one")
    trees.assert_same(later, seen(root), ("before", "after"))


def test_a_committed_file_is_a_copy_from_its_next_change_on(cli: Cli, root: Path) -> None:
    """It was made in the mount, and then had no origin that the next mount is to look for."""
    (root / "made").write_text("here")
    cli("commit", "one", "two", "--rebase")
    (root / "made").write_text("changed")
    (root / "new").mkdir()
    (root / "made").rename(root / "new/place")
    assert os.getxattr(cli.container("one") / "upper/new", "trusted.overlay.impure") == b"y"


def test_programs_go_on(cli: Cli, either: None, root: Path) -> None:
    """What was open, mapped, locked, watched, listed, listened at or gone into is as it was."""
    reader = os.open(root / "deep/er/one", os.O_RDONLY)
    gone = os.open(root / "removed", os.O_RDONLY)
    folder = os.open(root / "moved", os.O_RDONLY | os.O_DIRECTORY)
    (root / "removed").unlink()
    sparse = os.open(root / "sparse", os.O_RDONLY)
    view = mmap.mmap(sparse, 0, prot=mmap.PROT_READ)
    fcntl.flock(reader, fcntl.LOCK_EX)
    inside = subprocess.Popen(
        ["sh", "-c", "read _; cat passwd; pwd"],
        cwd=root / "moved",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    wanted = (root / "moved/passwd").read_text() + f"{root}/moved\n"
    numbers = [os.fstat(fd).st_ino for fd in (reader, gone, folder, sparse)]
    listener = socket.socket(socket.AF_UNIX)
    here = os.open(root / "deep", os.O_PATH)
    listener.bind(f"/proc/self/fd/{here}/socket")
    listener.listen()
    assert os.read(reader, 2) == b"on"
    with watch() as watched:
        watched.add(os.fsencode(root / "three"), b"three")
        cli("commit", "one", "two", "--rebase")
        assert watched.events() == []
        with (root / "deep/two").open("a") as file:
            file.write("more")
        assert (b"three", b"", "MODIFY") in watched.events()
    assert os.pread(reader, 100, 2) == b"e\nmore"
    assert os.pread(gone, 100, 0) == b"to be removed"
    assert view[-3:] == b"end"
    assert [os.fstat(fd).st_ino for fd in (reader, gone, folder, sparse)] == numbers
    assert os.stat(root / "three").st_ino == numbers[0]
    with open(root / "three") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert sorted(os.listdir(folder)) == sorted(os.listdir(root / "moved"))
    assert inside.communicate("go\n")[0] == wanted
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(f"/proc/self/fd/{here}/socket")
    assert cli("diff", "one").splitlines() == [
        "C /deep",
        "C /deep/er",
        "C /deep/er/one",
        "A /deep/socket",
        "C /deep/two",
        "C /three",
    ]
    view.close()
    listener.close()
    for fd in (reader, gone, folder, sparse, here):
        os.close(fd)


def test_what_is_written_to_is_named_and_refused(cli: Cli, root: Path) -> None:
    images = cli.json("image", "ls")
    with (root / "three").open("r+b"):
        error = cli.fails("commit", "one", "two", "--rebase")
        assert f"{root}/three by" in error
        assert str(os.getpid()) in error
    with open(root / "sparse", "r+b") as file:
        view = mmap.mmap(file.fileno(), 4096)
    assert f"{root}/sparse by" in cli.fails("commit", "one", "two", "--rebase", "--live")
    view.close()
    assert cli.json("image", "ls") == images
    pipe = os.open(root / "deep/pipe", os.O_RDWR)  # nothing of it is in a file
    cli("commit", "one", "two", "--rebase")
    os.close(pipe)


def test_what_would_be_another_is_named(cli: Cli, root: Path) -> None:
    """Times that are cut to SOURCE_DATE_EPOCH are not those that programs have seen."""
    before = seen(root)
    epoch = {**cli.env, "SOURCE_DATE_EPOCH": "1000000000"}
    error = cli.fails("commit", "one", "two", "--rebase", env=epoch)
    assert "container one is not on it" in error
    same(before, seen(root))
    assert cli.json("inspect", "one")["image"] == "tiny:latest"
    assert "A /three" in cli("diff", "one")
    cli("commit", "one", "two", "--rebase")
    same(before, seen(root))


def test_a_read_only_mount_stays(cli: Cli, root: Path) -> None:
    cli("umount", "one")
    cli("mount", "--read-only", "one")
    assert "read-only" in cli.fails("commit", "one", "two", "--rebase")
    assert (root / "three").read_text() == "one\n"


def test_one_that_runs(cli: Cli, root: Path) -> None:
    cli("umount", "one")
    words = "echo x > /ran; echo go; cat; cat /ran; echo y > /later"
    process = cli.start("run", "one", "sh", "-c", words, stdin=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    cli("commit", "one", "two", "--rebase")
    assert process.communicate("")[0] == "x\n"
    assert cli("diff", "one") == "A /later\n"
