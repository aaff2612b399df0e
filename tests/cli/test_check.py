"""check: what it says, and its exit status, which is as fsck's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.command import Cli

_CHANGES = "mv bin programs; echo more >> etc/motd; ln etc/motd again; mkdir new; rm -r usr"


@pytest.fixture
def changed(cli: Cli) -> Cli:
    """The container ``one``, changed in many ways, unmounted."""
    cli("create", "tiny", "--name", "one")
    root = cli("mount", "one").strip()
    subprocess.run(["sh", "-ec", "mkdir -p etc; : >> etc/motd; mkdir -p usr"], cwd=root, check=True)
    subprocess.run(["sh", "-ec", _CHANGES], cwd=root, check=True)
    cli("umount", "one")
    return cli


def test_what_mounts_make_has_no_faults(changed: Cli) -> None:
    """Nor has it while it is mounted, when it is left alone."""
    assert changed("check") == "no faults\n"
    changed("mount", "one")
    assert changed("check").splitlines() == [
        "note: container one: is mounted: its upper was not looked at",
        "no faults",
    ]
    assert changed.json("check")["status"] == 0


def test_the_statuses_are_those_of_fsck(changed: Cli, tmp_path: Path) -> None:
    upper = changed.container("one") / "upper"
    prefix = next(n for n in os.listxattr(upper / "programs") if n.endswith("redirect"))
    os.setxattr(upper / "programs", prefix, b"/nowhere")
    (changed.root / "layers").chmod(0o711)
    told = changed("check", status=4).splitlines()
    assert told[0] == f"directory {changed.root}/layers: is open to others (mode 0711)"
    assert told[1:] == [
        "container one: /programs: its redirect leads nowhere: /nowhere",
        "2 faults, 2 can be repaired with --repair",
    ]
    (upper / ".wh.x").touch()
    told = changed("check", "--repair", status=4).splitlines()
    assert told[0].endswith(" -- made it 0700")
    assert told[-1] == "3 faults, 2 repaired, 1 cannot be repaired"
    (upper / ".wh.x").unlink()
    assert changed("check") == "no faults\n"
    (changed.root / "layers").chmod(0o711)
    done = changed.run("--json", "check", "--repair")
    assert (done.returncode, '"status": 1' in done.stdout) == (1, True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "store.db").write_bytes(b"nonsense" * 1000)
    assert "not a database" in changed.fails("--root", str(other), "check", status=8)
