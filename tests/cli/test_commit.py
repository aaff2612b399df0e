"""commit: what a container changed as an image, and images that are run and read by others."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import leftovers, trees
from tests.support.command import Cli
from tests.support.images import have, run, umoci_unpack
from tests.support.kernel import own_mount_namespace

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]
CHANGES = r"""
echo new > new; echo more >> etc/passwd; rm -r home; mkdir home; echo h > home/h
mv etc moved; mkdir -p etc/deep; ln new etc/linked; ln -s ../new etc/symlink
mknod tty c 5 0; mkfifo fifo; chmod 4755 bin/sh; chown 12:34 tmp
truncate -s 5M sparse; printf end >> sparse
touch -d @1000000000 bin/cat; : >> bin/ls; rm bin/sleep; echo '.' > 'odd name'
"""


@pytest.fixture(autouse=True)
def own_mounts() -> None:
    if not leftovers.in_own_namespace():
        own_mount_namespace()


@pytest.fixture
def changed(cli: Cli) -> Cli:
    """The container ``one``, changed in every way that the shell knows; unmounted."""
    cli("create", "tiny", "--name", "one")
    root = cli("mount", "one").strip()
    subprocess.run(["sh", "-ec", CHANGES], cwd=root, check=True)
    os.setxattr(f"{root}/new", "user.colour", b"blue")
    wanted = trees.snapshot(os.fsencode(root))
    cli("umount", "one")
    cli.wanted = wanted  # type: ignore[attr-defined]
    yield cli
    cli.tidy()
    for image in cli.json("image", "ls"):
        if image["names"] != ["tiny:latest"]:
            cli("image", "rm", "--force", image["id"])


def shown(cli: Cli, image: str, target: Path) -> trees.Tree:
    """Return the tree of an image, mounted with no container."""
    cli("mount", "--image", image, str(target))
    try:
        return trees.snapshot(os.fsencode(target))
    finally:
        cli("umount", str(target))


@pytest.mark.parametrize("words", [(), ("--rebase",)])
def test_a_daemon_that_is_leaving_is_waited_for(changed: Cli, words: tuple[str, ...]) -> None:
    """Right after ``umount``: the mount is gone, and its daemon still has the lock for a moment."""
    work = os.open(changed.container("one") / "work", os.O_RDONLY)
    fcntl.flock(work, fcntl.LOCK_SH)
    process = changed.start("commit", *words, "one", "two:1", stderr=subprocess.PIPE)
    time.sleep(1)
    waiting = process.poll() is None
    os.close(work)
    assert process.communicate(timeout=30)[1] == ""
    assert (process.returncode, waiting) == (0, True)
    changed("rm", "one")


def test_the_image_is_what_the_container_was(changed: Cli, target: Path) -> None:
    printed = changed("commit", "one", "two:1")
    (image,) = [one for one in changed.json("image", "ls") if one["names"] == ["two:1"]]
    assert printed.strip() == image["id"]
    assert image["layers"] == 2
    assert len(changed.json("layer", "ls")) == 2
    trees.assert_same(changed.wanted, shown(changed, "two:1", target), ("container", "image"))
    again = changed("commit", "one", "three", "--keep-unchanged").strip()
    layers = changed.json("image", "inspect", again)["layers"]
    assert layers[0] == changed.json("image", "inspect", "two:1")["layers"][0]
    trees.assert_same(changed.wanted, shown(changed, "three", target), ("container", "image"))


def test_the_same_changes_give_the_same_image(changed: Cli) -> None:
    changed.env["SOURCE_DATE_EPOCH"] = "1700000000"
    try:
        assert changed("commit", "one", "a") == changed("commit", "one", "b")
        changed("create", "tiny", "--name", "other")  # the same changes, made at another time
        root = changed("mount", "other").strip()
        subprocess.run(["sh", "-ec", CHANGES], cwd=root, check=True)
        os.setxattr(f"{root}/new", "user.colour", b"blue")
        changed("umount", "other")
        assert changed("commit", "other", "c") == changed("commit", "one", "a")
    finally:
        del changed.env["SOURCE_DATE_EPOCH"]
    document = changed.json("image", "inspect", "a")
    assert document["names"] == ["a:latest", "b:latest", "c:latest"]
    assert document["created"] == "2023-11-14T22:13:20Z"


def test_history_and_config(changed: Cli) -> None:
    words = ["-m", "why", "-a", "A. U. Thor", "-c", "ENV A=1", "-c", 'CMD ["x"]']
    changed("commit", "one", "two", *words)
    document = changed.json("image", "inspect", "two")
    last = document["history"][-1]
    assert (last["comment"], last["author"]) == ("why", "A. U. Thor")
    assert (last["created_by"], last["created"]) == ("unionfs commit", document["created"])
    assert len(document["history"]) == 2
    assert document["config"]["Cmd"] == ["x"]
    assert document["config"]["Env"] == ["A=1"]


def test_nothing_changed_is_no_layer(cli: Cli) -> None:
    cli("create", "tiny", "--name", "one")
    root = cli("mount", "one").strip()
    with open(f"{root}/bin/ls", "r+b") as file:  # copied up, and as it was
        os.utime(file.fileno(), ns=(0, os.fstat(file.fileno()).st_mtime_ns))
    cli("umount", "one")
    cli("commit", "one", "same")
    document = cli.json("image", "inspect", "same")
    assert len(document["layers"]) == 1
    assert document["history"][-1]["empty_layer"] is True
    cli("commit", "one", "kept", "--keep-unchanged")
    assert len(cli.json("image", "inspect", "kept")["layers"]) == 2
    cli.tidy()
    cli("image", "rm", "same", "kept")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["none", "x"], 1, "no such container: none"),
        (["one", "Bad Name"], 2, "Bad Name"),
        (["one", "x", "-c", "RUN true"], 2, "RUN"),
        (["one", "x", "-c", "CMD"], 2, "CMD of nothing"),
    ],
)
def test_what_is_wrong_is_said_first(cli: Cli, words: list[str], status: int, message: str) -> None:
    cli("create", "tiny", "--name", "one")
    before = cli.json("image", "ls")
    assert message in cli.fails("commit", *words, status=status)
    before[0]["containers"] = ["one"]
    assert cli.json("image", "ls") == before


def test_a_committed_image_is_a_base_again(changed: Cli, target: Path) -> None:
    changed("commit", "one", "two")
    changed("create", "two", "--name", "next")
    root = changed("mount", "next").strip()
    trees.assert_same(changed.wanted, trees.snapshot(os.fsencode(root)), ("one", "next"))
    subprocess.run(["sh", "-ec", "mv moved again; rm new; echo x >> again/group"], cwd=root)
    wanted = trees.snapshot(os.fsencode(root))
    changed("umount", "next")
    changed("commit", "next", "three")
    assert len(changed.json("image", "inspect", "three")["layers"]) == 3
    trees.assert_same(wanted, shown(changed, "three", target), ("container", "image"))


def test_rebase(changed: Cli, target: Path) -> None:
    changed("commit", "one", "two", "--rebase")
    assert changed("diff", "one") == ""
    assert changed.json("inspect", "one")["image"] == "two:latest"
    assert os.listdir(changed.container("one") / "upper") == []
    root = changed("mount", "one").strip()
    trees.assert_same(changed.wanted, trees.snapshot(os.fsencode(root)), ("before", "after"))
    (Path(root) / "more").write_text("x")
    changed("umount", "one")
    changed("commit", "one", "three", "--rebase")
    trees.assert_same(
        shown(changed, "three", target), shown_container(changed, "one"), ("image", "container")
    )
    changed("image", "rm", "two")


@pytest.mark.skipif(have("umoci", "skopeo") is not None, reason=str(have("umoci", "skopeo")))
def test_others_unpack_what_the_container_was(changed: Cli, tmp_path: Path) -> None:
    changed("commit", "one", "two")
    changed("image", "export", "two", f"oci:{tmp_path}/out")
    root = umoci_unpack(tmp_path / "out", "latest", tmp_path / "bundle")
    seen = trees.snapshot(os.fsencode(root))
    trees.assert_same(changed.wanted, seen, ("container", "umoci"))
    run("skopeo", "copy", f"oci:{tmp_path}/out", f"docker-archive:{tmp_path}/again:two:1")
    changed("image", "import", f"docker-archive:{tmp_path}/again", "--name", "three")
    ids = [changed.json("image", "inspect", name)["layers"] for name in ("two", "three")]
    assert ids[0] == ids[1]


def shown_container(cli: Cli, name: str) -> trees.Tree:
    root = cli("mount", name).strip()
    try:
        return trees.snapshot(os.fsencode(root))
    finally:
        cli("umount", name)
