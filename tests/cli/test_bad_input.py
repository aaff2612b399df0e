"""Wrong words and wrong worlds: one line of error, the right status, and nothing changed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.command import WORD, Cli
from tests.support.engines import soon

LONG = "x" * 300
TABLES = ("layers", "images", "image_layers", "names", "containers", "leases")


class Row(NamedTuple):
    """Words, the status that they end with, and what the error must name."""

    words: str
    status: int
    names: str


# In the words, {c} is a container, {i} its image, {t} an empty directory, {d} one with files.
TABLE = [
    # No such command, option or argument.
    Row("", 2, "COMMAND"),
    Row("bogus", 2, "no such command: bogus (see: unionfs --help)"),
    Row("pushd {c} x", 2, "no such command: pushd (see: unionfs --help)"),
    Row("--bogus ls", 2, "unknown option --bogus (see: unionfs --help)"),
    Row("--json --root /nowhere --bogus {i}", 2, "unknown option --bogus"),
    Row("-x", 2, "unknown option -x"),
    Row("commit {c}", 2, "NAME"),
    Row("image export {i}", 2, "DEST"),
    Row("image export {i} {t}", 2, "oci:DIR"),
    Row("image export {i} oci:{d}", 1, "{d} is there already"),
    Row("image export {i} oci:{t}/a/b", 1, "{t}/a"),
    Row("image export nope oci:{t}/x", 1, "nope"),
    Row("image export --compression xz {i} oci:{t}/x", 2, "xz"),
    Row("commit nope x", 1, "nope"),
    Row("commit {i} x", 1, "it is an image"),
    Row("crate {i}", 2, "no such command: crate (see: unionfs --help; to mount on {i}"),
    Row("image", 2, "COMMAND"),
    Row("image bogus", 2, "no such command: bogus (see: unionfs image --help)"),
    Row("-o lowerdir={d}", 2, "(see: unionfs --help)"),
    Row("ls --bogus", 2, "--bogus"),
    Row("ls extra", 2, "extra"),
    Row("image import", 2, "SOURCE"),
    Row("image rm", 2, "IMAGE"),
    Row("image tag tiny", 2, "NAME"),
    Row("image untag", 2, "NAME"),
    Row("gc everything", 2, "everything"),
    Row("rm", 2, "CONTAINER"),
    Row("mount", 2, "CONTAINER"),
    Row("mount a b c", 2, "CONTAINER"),
    Row("mount --image {i}", 2, "TARGET"),
    Row("mount --image {i} {t} {t}", 2, "TARGET"),
    Row("run --runtime docker {i}", 2, "docker"),
    Row("run --network bridge {i}", 2, "bridge"),
    Row("--root", 2, "--root"),
    Row("--root= ls", 2, "--root"),
    # What is not there.
    Row("inspect nope", 1, "nope"),
    Row("create nope", 1, "nope"),
    Row("mount nope", 1, "nope"),
    Row("mount --image nope {t}", 1, "nope"),
    Row("umount nope", 1, "nope"),
    Row("umount {t}", 1, "{t} is not mounted"),
    Row("umount /proc", 1, "/proc is not a mount point of unionfs"),
    Row("umount {c}", 1, "{c} is not mounted"),
    Row("run nope", 1, "nope"),
    Row("bundle nope {t}", 1, "nope"),
    Row("diff nope", 1, "nope"),
    Row("rm nope", 1, "nope"),
    Row("rm --force nope", 1, "nope"),
    Row("image inspect nope", 1, "nope"),
    Row("image rm nope", 1, "nope"),
    Row("image tag nope x", 1, "nope"),
    Row("image untag nope", 1, "nope"),
    Row("image verify nope", 1, "nope"),
    Row("image inspect", 2, "IMAGE"),
    Row("layer inspect nope", 1, "nope"),
    # An image where a container is wanted.
    Row("mount {i}", 1, "unionfs create {i}, or unionfs mount --image {i} TARGET"),
    Row("mount {i} {t}", 1, "no such container: {i}; it is an image"),
    Row("inspect {i}", 1, "unionfs image inspect {i}"),
    Row("diff {i}", 1, "unionfs create {i}"),
    Row("rm {i}", 1, "unionfs image rm {i}"),
    Row("bundle {i} {t}/bundle", 1, "unionfs create {i}"),
    # Stores that are none.
    Row("--root {d} ls", 1, "{d} is not a store and is not empty: it holds 'file'"),
    Row("--root {d} image ls", 1, "{d} is not a store"),
    Row("--root {d}/file layer ls", 1, "{d}/file is not a store and not a directory"),
    Row("--root {d}/file df", 1, "{d}/file is not a store"),
    Row("--root {d}/none create {i}", 1, "no store at {d}/none"),
    # Names with slashes and dots, and other things that are no names.
    Row("create {i} --name ../evil", 2, "../evil"),
    Row("create {i} --name a/b", 2, "a/b"),
    Row("create {i} --name .", 2, "'.'"),
    Row("create {i} --name ..", 2, "'..'"),
    Row("create {i} --name .hidden", 2, ".hidden"),
    Row("create {i} --name -x", 2, "--name"),
    Row("create {i} --name=", 2, "''"),
    Row(f"create {{i}} --name {LONG}", 2, "xxx"),
    Row("create {i} --name {c}", 1, "{c}"),
    Row("run --name a/b {i} sh", 2, "a/b"),
    Row("run --name other {c} sh", 1, "{c}"),
    Row("inspect ../{c}", 1, "../{c}"),
    Row("inspect q\udcff", 1, "no such container: q"),
    Row("umount q\udcff", 1, "no such container: q"),
    Row("run q\udcff sh", 1, "no such container or image: q"),
    Row("image inspect q\udcff", 1, "no such image: q"),
    Row("layer inspect q\udcff", 1, "no such layer: q"),
    Row("create q\udcff", 1, "no such image: q"),
    Row("inspect .", 1, "no such container: ."),
    Row("inspect containers/{c}", 1, "containers/{c}"),
    Row("image inspect ../{i}", 1, "../{i}"),
    Row("image inspect sha256:../../x", 1, "sha256:../../x"),
    Row("layer inspect ../../etc", 1, "../../etc"),
    Row("image import rootfs:{d} --name ../evil", 2, "../evil"),
    Row("image import rootfs:{d} --name UPPER", 2, "UPPER"),
    Row("image import rootfs:{d} --name a:..", 2, "'..'"),
    # What cannot be imported.
    Row("image import {t}/none", 1, "{t}/none"),
    Row("image import docker://debian:12", 1, "no file or directory 'docker://debian:12'"),
    Row("image import rootfs:{t}/none", 1, "{t}/none"),
    Row("image import oci:{d}", 1, "{d}"),
    Row("image import oci-archive:{d}/file", 1, "{d}/file"),
    Row("image import docker-archive:{d}/file", 1, "{d}/file"),
    Row("image import {d}/file", 1, "{d}/file is neither an OCI layout nor a docker archive"),
    Row("image import rootfs:{d}/file", 1, "{d}/file: not a tar archive"),
    Row("image import docker-archive:{d}/file:ref", 1, "{d}/file is not a tar archive"),
    Row("image import {t} --platform vindovs", 2, "'vindovs' is neither a system nor an arch"),
    Row("image import {t} --platform linux/", 2, "not a platform: 'linux/'"),
    Row("image import rootfs:{d} --limit bogus=1", 2, "bogus=1"),
    Row("image import rootfs:{d} --limit max_bytes=many", 2, "max_bytes=many"),
    Row("image import rootfs:{d} --limit max_bytes=10", 1, "max_bytes=10"),
    # What cannot be mounted, or not there.
    Row("mount {c} {t}/none", 1, "{t}/none does not exist"),
    Row("mount {c} {d}/file", 1, "{d}/file is not a directory"),
    Row("-o lowerdir={d} {e}", 1, "the mount point '' does not exist"),
    Row("mount {c} {e}", 1, "the mount point '' does not exist"),
    Row("mount --image {i} {e}", 1, "the mount point '' does not exist"),
    Row("-o lowerdir={d} /", 1, "nothing would show a mount on /: mount elsewhere, and chroot"),
    Row("mount {c} {d}", 1, "{d} is not empty"),
    Row("mount --image {i} {d}", 1, "{d} is not empty"),
    Row("mount {c} {t} -o bogus", 2, "-o bogus: unknown option (see: unionfs mount --help)"),
    Row("mount {c} {t} -o lowerdir=/etc", 2, "lowerdir"),
    Row("mount {c} {t} -o upperdir=/etc,workdir=/tmp", 2, "upperdir"),
    Row("mount {c} {t} -o fsname=x", 2, "fsname"),
    Row("mount {c} {t} -o remount,ro", 1, "remount"),
    Row("mount {c} {t} -o spin=x", 2, "spin"),
    # What cannot be run.
    Row("run {c} none", 127, "none"),
    Row("run {c} ../../bin/sh-not-here", 127, "sh-not-here"),
    Row("run {c} /etc/passwd", 126, "/etc/passwd"),
    Row("run -u nobody-here {c} sh", 1, "the image has no user 'nobody-here'"),
    Row("run -u root:none {c} sh", 1, "the image has no group 'none' ('root:none' was asked for)"),
    Row("run -u 4294967296 {c} sh", 1, "4294967296"),
    Row("run -e =x {c} sh", 2, "=x"),
    Row("run {c} echo q\udcff", 2, "is not UTF-8"),
    Row("run -e A=q\udcff {c} sh", 2, "is not UTF-8"),
    Row("bundle {c} {d}/file", 1, "{d}/file is not a directory"),
]


@pytest.fixture(scope="module")
def cli(shared: Cli) -> Iterator[Cli]:
    """A store with a container called one, which has a change in it."""
    made = shared("create", "tiny", "--name", "one").strip()
    (shared.root / "containers" / made / "upper/change").touch()
    yield shared
    shared.tidy()


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A directory with a file in it."""
    path = tmp_path / "full"
    path.mkdir()
    (path / "file").write_text("not an image\n" * 100)
    return path


def _content(cli: Cli) -> tuple[object, ...]:
    """What the store holds: its directories' files with their sizes, and its tables' rows."""
    passing = {"mount.lock", "run.lock", "log", "store.db-journal", "store.db"}
    files = sorted(
        (str(path), path.lstat().st_size if path.is_file() else 0)
        for path in cli.root.rglob("*")
        if path.name not in passing and "/work/" not in str(path)
    )
    with closing(sqlite3.connect(cli.root / "store.db")) as database:
        rows = [sorted(database.execute(f"SELECT * FROM {name}")) for name in TABLES]
    return files, rows


@pytest.mark.needs_fuse
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.words[:60].replace("/", "_") or "none")
def test_one_line_the_status_and_nothing_changed(
    cli: Cli, row: Row, target: Path, full: Path
) -> None:
    facts = {"c": "one", "i": "tiny", "t": str(target), "d": str(full), "e": ""}
    before = _content(cli)
    error = cli.fails(*(word.format(**facts) for word in row.words.split()), status=row.status)
    assert row.names.format(**facts) in error
    assert soon(lambda: _content(cli) == before)  # a daemon may be leaving
    assert list(target.iterdir()) == []
    assert [path.name for path in full.iterdir()] == ["file"]


def test_no_store_is_an_error_only_where_one_is_needed(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "none")
    assert "no store" in cli.fails("create", "tiny")
    assert "no store" in cli.fails("run", "tiny", "sh")
    assert cli.json("ls") == []
    assert not cli.root.exists()


def test_a_missing_store_is_said_to_whoever_named_it(tmp_path: Path) -> None:
    named = ["--root", str(tmp_path / "none")]
    done = Cli(tmp_path).run(*named, "image", "ls")
    assert done.returncode == 0
    assert done.stderr == f"unionfs: there is no store at {tmp_path}/none yet\n"
    assert Cli(tmp_path).json(*named, "image", "ls") == []
    assert Cli(tmp_path)(*named, "-q", "ls") == ""


def test_a_root_that_is_something_else_is_left_alone(full: Path) -> None:
    cli = Cli(full)
    assert str(full) in cli.fails("image", "import", f"rootfs:{full}", "--name", "a")
    assert [path.name for path in full.iterdir()] == ["file"]


def _newer(root: Path) -> None:
    with closing(sqlite3.connect(root / "store.db")) as database:
        database.execute("PRAGMA user_version = 99")


def _garbage(root: Path) -> None:
    (root / "store.db").write_bytes(b"garbage" * 1000)


@pytest.mark.parametrize(("break_it", "names"), [(_newer, "newer unionfs"), (_garbage, "store.db")])
@pytest.mark.parametrize("words", [["ls"], ["image", "ls"], ["create", "tiny"], ["run", "tiny"]])
def test_a_store_that_cannot_be_used(
    cli: Cli,
    tmp_path: Path,
    break_it: Callable[[Path], None],
    names: str,
    words: list[str],
) -> None:
    copy = Cli(tmp_path / "copy")
    shutil.copytree(cli.root, copy.root, symlinks=True)
    break_it(copy.root)
    before = (copy.root / "store.db").read_bytes()
    assert names in copy.fails(*words)
    assert (copy.root / "store.db").read_bytes() == before


@pytest.mark.needs_root
def test_no_permission_for_the_store(target: Path) -> None:
    # Root without the capabilities that make it more than the owner of its own files.
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    target.chmod(0o700)
    os.chown(target, 1234, 1234)
    cli = Cli(target / "store")
    for words in (["create", "tiny"], ["image", "import", "rootfs:/etc"]):
        done = subprocess.run([*drop, *WORD, *words], capture_output=True, text=True, env=cli.env)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("unionfs: error: ")
        assert str(cli.root) in line
    assert list(target.iterdir()) == []


@pytest.mark.needs_fuse
def test_a_layer_that_is_gone(cli: Cli, tmp_path: Path, target: Path) -> None:
    copy = Cli(tmp_path / "copy")
    shutil.copytree(cli.root, copy.root, symlinks=True)
    layer = Path(copy.json("layer", "inspect", copy("layer", "ls", "-q").strip())["path"])
    shutil.rmtree(layer)
    diff_id = layer.parent.name
    for words in (["mount", "one", str(target)], ["run", "one", "sh"], ["create", "tiny"]):
        assert diff_id in copy.fails(*words)
    assert list(target.iterdir()) == []
    assert os.listdir(copy.root / "tmp") == []
    assert copy("rm", "one") == "one\n"


@pytest.mark.needs_fuse
def test_a_mount_can_be_left_when_the_database_cannot_be_read(
    cli: Cli, tmp_path: Path, target: Path
) -> None:
    copy = Cli(tmp_path / "copy")
    shutil.copytree(cli.root, copy.root, symlinks=True)
    copy("mount", "one", str(target))
    _garbage(copy.root)
    assert "store.db" in copy.fails("umount", "one")
    assert copy("umount", str(target)) == ""
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("words", [["-vv", "inspect", "nope"], ["--verbose", "-v", "diff", "nope"]])
def test_a_traceback_is_there_for_who_asks(cli: Cli, words: list[str]) -> None:
    done = cli.run(*words)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback ")
    assert done.stderr.splitlines()[-1] == "unionfs: error: no such container: nope"


@pytest.mark.parametrize(
    "words", [["--help"], ["image", "ls"], ["--json", "ls"], ["create", "tiny"]]
)
def test_nowhere_to_write_the_answer(cli: Cli, words: list[str]) -> None:
    """One line, and nothing of the interpreter's own at its end."""
    env = {**cli.env, "PYTHONUNBUFFERED": ""}
    with open("/dev/full", "w") as full:
        done = cli.run(*words, capture_output=False, stdout=full, stderr=subprocess.PIPE, env=env)
    said = "unionfs: error: standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)
