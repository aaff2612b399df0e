"""The store's filesystem is full: whoever filled it can be unmounted and removed, nothing is lost.

Regression: SQLite's WAL needed blocks for every command, so a container that had filled the disk
could not be removed (SIGBUS on ext4, "disk I/O error" on tmpfs), and ``run`` left its mount.
"""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import kernel, leftovers
from tests.support.command import Cli

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]
MB = 1 << 20


def _tmpfs(place: Path) -> None:
    kernel.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, b"size=24m,nr_inodes=600,mode=0700")


def _ext4(place: Path) -> None:
    """With blocks of 1 KiB, smaller than a page: of a page's blocks some may be missing."""
    disk = place.with_suffix(".img")
    with open(disk, "wb") as file:
        file.truncate(28 * MB)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-b", "1024", "-N", "600", disk], check=True)
    done = subprocess.run(["mount", "-o", "loop", disk, place], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no loop devices here: {done.stderr.strip()}")


@pytest.fixture(params=[_tmpfs, _ext4], ids=["tmpfs", "ext4"])
def small(request: pytest.FixtureRequest, tmp_path: Path, tiny: Path) -> Iterator[Cli]:
    """A store on a small filesystem, with the containers one and other."""
    if not leftovers.in_own_namespace():
        kernel.own_mount_namespace()
    place = tmp_path / "small"
    place.mkdir()
    request.param(place)
    cli = Cli(place / "store")
    try:
        cli("image", "import", f"rootfs:{tiny}", "--name", "tiny")
        for name in ("one", "other"):
            cli("create", "tiny", "--name", name)
        yield cli
        cli.tidy()
    finally:
        kernel.umount(os.fsencode(place), kernel.MNT_DETACH)


def _fill(path: Path) -> None:
    """Write to *path* until not one byte more goes to its filesystem."""
    with open(path, "ab", buffering=0) as file:
        for size in (MB, 4096, 512, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC


def _fill_with_names(folder: Path) -> None:
    """Make files in *folder* until its filesystem has no inode left."""
    folder.mkdir()
    with pytest.raises(OSError, match="No space left"):
        for number in range(10000):
            (folder / str(number)).touch()


def _blocks(container: Path) -> None:
    _fill(container / "merged/big")
    _fill(container.parents[2] / "rest")  # the root of the filesystem: what other users take


def _inodes(container: Path) -> None:
    _fill_with_names(container / "merged/many")


@pytest.mark.parametrize("fill", [_blocks, _inodes])
def test_reading_unmounting_and_removing_work(small: Cli, fill: Callable[[Path], None]) -> None:
    small("mount", "one")
    fill(small.container("one"))
    assert [one["status"] for one in small.json("ls")] == ["created", "mounted"]
    assert "A /" in small("diff", "one")
    small("umount", "one")
    assert small("check").endswith("no faults\n")
    small("gc")
    small("rm", "one")
    assert [one["name"] for one in small.json("ls")] == ["other"]
    assert len(os.listdir(small.root / "containers")) == 1
    assert os.listdir(small.root / "tmp") == os.listdir(small.root / "locks") == []


def test_removing_wins_against_somebody_who_goes_on_writing(small: Cli) -> None:
    _fill(small.root.parent / "rest")
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.001):
            _fill(small.root.parent / "rest")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for name in ("one", "other"):
            small("rm", name)
        small("image", "rm", "tiny")
    finally:
        stop.set()
        writer.join()
    assert small.json("ls") == small.json("layer", "ls") == []
    assert os.listdir(small.root / "layers/sha256") == []


def test_a_run_that_fills_the_disk_leaves_no_mount(small: Cli) -> None:
    words = "while :; do cat /bin/* || exit 3; done >/big"
    done = small.run("run", "--rm", "tiny", "sh", "-c", words)
    assert done.returncode == 3
    assert "unionfs: error" not in done.stderr
    assert leftovers.fuse_mounts(os.fsencode(small.root)) == []
    assert len(small.json("ls")) == 2


def test_what_needs_room_says_that_there_is_none_and_leaves_nothing(
    small: Cli, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(os.urandom(MB))
    words = ("image", "import", f"rootfs:{tmp_path}/tree", "--name", "new")
    _fill(small.root.parent / "rest")
    before = sorted(small.root.rglob("*"))
    assert "no space left" in small.fails(*words).lower()
    assert sorted(small.root.rglob("*")) == before
    os.unlink(small.root.parent / "rest")
    assert small(*words)


def test_a_commit_and_an_export_without_room_leave_nothing(small: Cli) -> None:
    small("mount", "one")
    (small.container("one") / "merged/new").write_bytes(os.urandom(MB))
    _fill(small.root.parent / "rest")
    before = {path for path in small.root.rglob("*") if "merged" not in path.parts}
    for words in (
        ("commit", "one", "made"),
        ("image", "export", "tiny", f"oci:{small.root.parent}/out"),
        ("image", "export", "tiny", f"docker-archive:{small.root.parent}/out"),
    ):
        assert "no space left" in small.fails(*words).lower()
        assert {path for path in small.root.rglob("*") if "merged" not in path.parts} == before
        assert set(os.listdir(small.root.parent)) <= {"lost+found", "rest", "store"}
    os.unlink(small.root.parent / "rest")
    assert small("commit", "one", "made")
    assert small("image", "export", "made", f"oci:{small.root.parent}/out")


def test_a_failed_allocation_leaves_the_length_that_is_shown(small: Cli) -> None:
    """Regression: ext4 keeps what it allocated until then, and fstat(2) told the old length."""
    container = Path(small("mount", "one").strip())
    with open(container / "new", "wb", buffering=0) as file:
        file.write(b"x" * 5000)
        os.fstat(file.fileno())  # the kernel remembers it
        with pytest.raises(OSError, match="No space left"):
            os.posix_fallocate(file.fileno(), 0, 1 << 30)
        length = os.fstat(file.fileno()).st_size
    upper = container.parent / "upper" / "new"
    assert length == upper.stat().st_size
