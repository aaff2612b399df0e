"""Commands by a process that has the program loaded are what commands are that users start."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import loaded
from tests.support.command import WORD, Cli


@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        ["--help"],
        ["frobnicate"],
        ["create", "nothing"],
        ["--root", "here", "gc"],
        ["-o", "lowerdir=nowhere", "target"],
    ],
    ids=" ".join,
)
def test_they_say_the_same(words: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = Cli(tmp_path / "store").env
    started = subprocess.run([*WORD, *words], env=env, capture_output=True, text=True, check=False)
    forked = loaded.run(words, env, 60)
    assert (forked.stdout, forked.stderr) == (started.stdout, started.stderr)
    assert forked.returncode == started.returncode


def test_what_hangs_is_killed(tmp_path: Path) -> None:
    env = {**Cli(tmp_path).env, "UNIONFS_SERVE": str(tmp_path / "socket")}
    with pytest.raises(subprocess.TimeoutExpired):
        loaded.run(["serve"], env, 3)
    assert (tmp_path / "socket").exists()
    assert str(tmp_path / "socket") not in Path("/proc/net/unix").read_text()  # who had it is gone
