"""bundle: what crun and runc make of it, and bubblewrap of the same container."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support import runtimes
from tests.support.command import Cli

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

SCRIPT = "echo $HOSTNAME; cat /data; echo new >/etc/new; rm /etc/group; echo more >>/etc/passwd"
CHANGES = "A /data\nC /etc\nD /etc/group\nA /etc/new\nC /etc/passwd\n"


@pytest.fixture
def one(cli: Cli) -> str:
    """A mounted container; returns where it is mounted."""
    cli("create", "tiny", "--name", "one")
    merged = cli("mount", "one").strip()
    Path(merged, "data").write_text("put there before\n")
    return merged


def _run(runtime: str, bundle: Path, script: str) -> subprocess.CompletedProcess[str]:
    name = f"unionfs-bundle-{os.getpid()}"
    words = [*runtimes.words(runtime), "run", "--bundle", str(bundle), name]
    return subprocess.run(
        words, input=script, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_a_runtime_runs_it(cli: Cli, one: str, tmp_path: Path, runtime: str) -> None:
    """It prints, ends with the program's status, and the changes are in the container's diff."""
    assert cli("bundle", "one", str(tmp_path / "b")) == f"{tmp_path}/b/config.json\n"
    document = json.loads((tmp_path / "b/config.json").read_text())
    assert document["root"] == {"path": one, "readonly": False}
    assert document["process"]["args"] == ["sh"]
    done = _run(runtime, tmp_path / "b", f"{SCRIPT}; exit 6")
    assert (done.returncode, done.stdout) == (6, cli("ls", "-q") + "put there before\n"), done
    assert cli("diff", "one") == CHANGES
    assert _run(runtime, tmp_path / "b", "cat /etc/new").stdout == "new\n"


def test_bubblewrap_runs_the_same(cli: Cli, one: str) -> None:
    """It reads no bundles: ``run`` tells it what a bundle would."""
    words = ("run", "--runtime", "bubblewrap", "one", "sh", "-c", f"{SCRIPT}; exit 6")
    assert cli(*words, status=6) == cli("ls", "-q") + "put there before\n"
    assert cli("diff", "one") == CHANGES


def test_an_unmounted_container_is_mounted_only_meanwhile(cli: Cli, tmp_path: Path) -> None:
    cli("create", "tiny", "--name", "one")
    found = cli.json("bundle", "one", str(tmp_path))
    assert found == {"config": str(tmp_path / "config.json")}
    assert cli.json("inspect", "one")["status"] == "created"


def test_a_config_that_is_there_is_not_overwritten(cli: Cli, tmp_path: Path) -> None:
    cli("create", "tiny", "--name", "one")
    (tmp_path / "config.json").write_text("mine")
    assert "is there already" in cli.fails("bundle", "one", str(tmp_path))
    assert (tmp_path / "config.json").read_text() == "mine"
