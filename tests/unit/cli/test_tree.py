"""Global options before and after the command, the root, and complaints of one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unionfs.cli import running
from unionfs.cli.commands import build, run
from unionfs.cli.context import Context
from unionfs.cli.main import COMMANDS
from unionfs.cli.tree import CommandLineError
from unionfs.container import runtime


def context(*words: str) -> Context:
    return Context.of(build().parse_args(words))


@pytest.mark.parametrize("words", ["--json -q --root /r ls", "ls --root=/r -q --json"])
def test_global_options_stand_anywhere(words: str) -> None:
    found = context(*words.split())
    assert (found.json, found.quiet, found.root) == (True, True, "/r")


def test_what_stands_before_is_not_undone_behind() -> None:
    found = context("--root", "/r", "-v", "image", "ls", "--json")
    assert (found.root, found.verbose, found.json, found.quiet) == ("/r", 1, True, False)


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIONFS_ROOT", "/from/environment")
    assert context("ls").root == "/from/environment"
    assert context("--root", "/said", "ls").root == "/said"
    monkeypatch.setenv("UNIONFS_ROOT", "")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert context("ls").root == "/var/lib/unionfs"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert context("ls").root == "/data/unionfs"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert context("ls").root == "/home/me/.local/share/unionfs"


def test_no_abbreviations_are_guessed() -> None:
    with pytest.raises(CommandLineError, match="--forc"):
        build().parse_args(["rm", "--forc", "x"])


def test_complaints_say_where_to_read_more() -> None:
    with pytest.raises(CommandLineError, match=r"\(see: unionfs image import --help\)$"):
        build().parse_args(["image", "import"])


@pytest.mark.parametrize("words", [["--help"], ["help"], ["help", "run"], ["image", "ls", "-h"]])
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run(["unionfs", *words])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("usage: unionfs")


def test_every_command_is_known_to_the_choice_of_form() -> None:
    # A first word that `main` does not know may be taken for the mount-helper form's.
    (commands,) = (action for action in build()._actions if action.choices)
    assert set(commands.choices or ()) <= COMMANDS


def test_the_runtimes_on_offer_are_those_that_there_are() -> None:
    # Spelled twice, so that the command tree is built without the module that runs them.
    assert running.RUNTIMES == runtime.RUNTIMES


def test_the_listing_s_imports_are_few() -> None:
    code = "import sys, unionfs.cli.commands as c; c.build(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"trio", "pyfuse3", "rich", "sqlite3", "json.tool", "zstandard", "unionfs.image"}
    assert not heavy & set(done.stdout.split())


def test_nothing_is_made_by_asking(tmp_path: Path) -> None:
    root = tmp_path / "store"
    assert run(["unionfs", "--root", str(root), "ls"]) == 0
    assert not root.exists()
