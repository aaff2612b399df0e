"""explain: on a container, an image, a mount point; for people and for programs."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.support.anatomy import COMMANDS, make_store
from tests.support.command import WORD, Cli

FUSE = [pytest.mark.needs_fuse]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    root = tmp_path_factory.mktemp("explain") / "store"
    make_store(root)
    return Cli(root)


def test_it_reads_in_80_columns(cli: Cli) -> None:
    cli("create", "anatomy", "--name", "web")
    text = cli("explain", "web", "/etc/motd", "/usr/share/doc/a")
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert "layer 4  file, 8B                                 ◂ shows" in text
    assert "Answer   /usr/share/doc is deleted by layer 3, `RUN rm -rf" in text
    assert "A write  copies it up: 8 bytes, after copying up 1 directory" in text


def test_a_terminal_has_colours(cli: Cli) -> None:
    ours, theirs = pty.openpty()
    words = [*WORD, "explain", "anatomy", "/etc/motd"]
    env = {**cli.env, "TERM": "xterm-256color"}
    env.pop("NO_COLOR", None)
    process = subprocess.Popen(words, env=env, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # EIO: the other end is closed
            break
        if not piece:
            break
        said += piece
    os.close(ours)
    assert process.wait() == 0
    assert b"\x1b[1;32m" in said


def test_json_says_all_of_it(cli: Cli) -> None:
    [found] = cli.json("explain", "anatomy", "/app/data")
    assert found["outcome"] == "found"
    assert (found["shown"]["number"], found["shown"]["command"]) == (4, COMMANDS[3])
    assert Path(found["shown"]["on_disk"]).read_bytes() == b"new"
    assert [one["path"] for one in found["components"]] == ["/app", "/app/data"]
    says = [(one["number"], one["says"], one["size"]) for one in found["components"][1]["layers"]]
    assert says == [
        (4, "has", 3), (3, "whiteout", None), (2, "has", 1000), (1, "no directory", None)
    ]  # fmt: skip
    assert found["copies"][1]["hidden"]["number"] == 4
    assert found["copies"][1]["same_content"] is False


def test_names_cannot_speak_to_the_terminal(cli: Cli) -> None:
    assert "/\\033[2J is in no layer" in cli("explain", "anatomy", "/\x1b[2J")


def test_what_it_cannot_find(cli: Cli, tmp_path: Path) -> None:
    assert cli.fails("explain", "nope", "/x") == "no such container, image or mount point: nope"
    assert "is not a mount point of unionfs" in cli.fails("explain", str(tmp_path), "/x")
    elsewhere = Cli(tmp_path / "none")
    assert elsewhere.fails("explain", "nope", "/x") == "no such container or image: nope"
    cli.fails("explain", "anatomy", status=2)
    assert cli.fails("explain", "anatomy", "", status=2) == "a PATH is empty"


@pytest.mark.needs_fuse
def test_a_mounted_container_by_name_and_by_mount_point(cli: Cli, target: Path) -> None:
    cli("create", "anatomy", "--name", "web")
    cli("mount", "web", str(target))
    (target / "etc" / "motd").write_text("mine")
    (target / "bin" / "sh").unlink()
    by_name = cli.json("explain", "web", "/etc/motd", "/bin/sh")
    assert by_name == cli.json("explain", str(target), "/etc/motd", "/bin/sh")
    inside = [f"{target}/etc/motd", f"{target}/bin/sh"]
    assert [one["path"] for one in cli.json("explain", str(target), *inside)] == [
        "/etc/motd", "/bin/sh",
    ]  # fmt: skip
    assert by_name[0]["shown"]["layer"] == "upper"
    assert by_name[0]["write"]["what"] == "in place"
    assert by_name[1]["blame"]["layer"] == "upper"
    assert [one["number"] for one in by_name[1]["copies"]] == [4, 1]


@pytest.mark.needs_fuse
def test_a_mounted_image(cli: Cli, target: Path) -> None:
    cli("mount", "--image", "anatomy", str(target))
    try:
        [found] = cli.json("explain", str(target), "/etc/motd")
    finally:
        cli("umount", str(target))
    assert (found["shown"]["number"], found["write"]["what"]) == (4, "read-only")


@pytest.mark.needs_fuse
@pytest.mark.parametrize("options", ["", ",noxattrinfo"])
def test_plain_directories_in_helper_form(tmp_path: Path, target: Path, options: str) -> None:
    """Without the attribute it is the daemon's command line that says what is mounted."""
    for name in ("low", "high", "upper", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "low" / "f").write_text("low")
    (tmp_path / "high" / "f").write_text("high")
    (tmp_path / "low" / "gone").write_text("x")
    words = f"lowerdir={tmp_path}/high:{tmp_path}/low"
    words += f",upperdir={tmp_path}/upper,workdir={tmp_path}/work{options}"
    cli = Cli(tmp_path / "no-store")
    subprocess.run([*WORD, "-o", words, target], check=True, timeout=60, env=cli.env)
    try:
        (target / "gone").unlink()
        shown, gone = cli.json("explain", str(target), "/f", "/gone")
    finally:
        cli("umount", str(target))
    assert (shown["shown"]["layer"], shown["shown"]["on_disk"]) == (
        "layer 2", str(tmp_path / "high" / "f"),
    )  # fmt: skip
    assert shown["write"] == {"what": "copy-up", "bytes": 4, "directories": 0}
    assert (gone["blame"]["layer"], gone["copies"][0]["layer"]) == ("upper", "layer 1")


@pytest.mark.needs_fuse
def test_relative_paths_of_a_daemon_that_says_nothing(tmp_path: Path, target: Path) -> None:
    """It has left the directory that they counted from; a directory of the same name misleads."""
    for name in ("x/low", "x/high", "x/upper", "x/work", "y/x/low"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "x" / "low" / "f").write_text("low")
    words = f"lowerdir=high:low:{tmp_path}/y/x/low,upperdir=./upper,workdir=work,noxattrinfo"
    cli = Cli(tmp_path / "no-store")
    cli("-o", words, str(target), cwd=tmp_path / "x")
    try:
        [found] = cli.json("explain", str(target), "/f")
    finally:
        cli("umount", str(target))
    assert found["shown"]["on_disk"] == str(tmp_path / "x" / "low" / "f")
    assert found["components"][0]["layers"][0]["layer"] == "upper"
