"""What scripts/setup.sh decides, on machines made of stand-in commands."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[3] / "scripts" / "setup.sh"


class Machine:
    """A directory of stand-in commands; ``calls`` holds what was asked of them."""

    def __init__(self, place: Path) -> None:
        self.bin = place / "bin"
        self.calls = place / "calls"
        self.bin.mkdir()
        self.calls.touch()
        for name in ("basename", "dirname", "sha256sum", "cut", "cat"):
            (self.bin / name).symlink_to(f"/usr/bin/{name}")

    def command(self, name: str, body: str = "exit 0") -> None:
        file = self.bin / name
        file.write_text(f'#!/bin/bash\necho "{name} $*" >> {self.calls}\n{body}\n')
        file.chmod(0o755)

    def run(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        # The script appends the sbin directories to PATH; here only the stand-ins count.
        text = f"source {SETUP}; PATH={self.bin}; {script}"
        environment = {"PATH": f"{self.bin}:/usr/bin:/bin", **variables}
        return subprocess.run(
            ["/bin/bash", "-c", text], env=environment, capture_output=True, text=True
        )


@pytest.fixture
def bare(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_only_what_is_missing_is_named(bare: Machine) -> None:
    bare.command("crun")
    assert bare.run("missing_packages crun=crun bwrap=bubblewrap").stdout == "bubblewrap\n"


def test_a_library_is_looked_for_with_pkg_config(bare: Machine) -> None:
    assert bare.run("missing_packages fuse3.pc=libfuse3-dev").stdout == "libfuse3-dev\n"
    bare.command("pkg-config")
    assert bare.run("missing_packages fuse3.pc=libfuse3-dev").stdout == ""
    assert bare.calls.read_text() == "pkg-config --exists fuse3\n"


def test_root_installs(bare: Machine) -> None:
    bare.command("id", "echo 0")
    bare.command("apt-get")
    assert bare.run("install_packages fuse3 gcc").returncode == 0
    update, install = bare.calls.read_text().replace("id -u\n", "").splitlines()
    assert update.startswith("apt-get update")
    assert install.endswith("fuse3 gcc")


def test_a_registry_is_installed_and_not_started(bare: Machine, tmp_path: Path) -> None:
    unit = tmp_path / "etc/docker-registry.service"
    bare.command("mkdir", f"/usr/bin/mkdir -p {unit.parent}")
    bare.command("ln", '/usr/bin/ln "$@"')
    assert bare.run("no_registry_server", REGISTRY_UNIT=str(unit)).returncode == 0
    assert unit.readlink() == Path("/dev/null")
    assert bare.run("no_registry_server", REGISTRY_UNIT=str(unit)).returncode == 0


def test_root_installs_nothing_when_nothing_is_missing(bare: Machine) -> None:
    bare.command("apt-get")
    assert bare.run("install_packages").returncode == 0
    assert bare.calls.read_text() == ""


def test_others_are_told_the_command(bare: Machine) -> None:
    bare.command("id", "echo 1000")
    bare.command("apt-get")
    run = bare.run("install_packages fuse3 gcc")
    assert run.returncode == 1
    assert run.stderr == "setup: missing packages; run: sudo apt-get install fuse3 gcc\n"
    assert "apt-get" not in bare.calls.read_text()


def test_an_old_python_is_passed_over(bare: Machine) -> None:
    bare.command("old", "exit 1")
    bare.command("new", '[[ $2 == *version_info* ]] || echo "/opt/python/bin/new"')
    run = bare.run('choose_python; echo "$PYTHON"', PYTHON="old new")
    assert run.stdout == "/opt/python/bin/new\n"


def test_no_python_at_all(bare: Machine) -> None:
    run = bare.run("choose_python", PYTHON="old")
    assert run.returncode == 1
    assert run.stderr.startswith("setup: no Python 3.11 or later found (looked for: old)")


def test_a_debian_python_gets_its_headers_from_its_own_package(bare: Machine) -> None:
    bare.command("python3.12", "exit 1")
    run = bare.run("missing_for_python", PYTHON=f"{bare.bin}/python3.12")
    assert run.stdout == "python3.12-venv\npython3.12-dev\n"


@pytest.mark.parametrize(("knob", "allowed", "status"), [("0", 1, 0), ("1", 0, 0), ("1", 1, 1)])
def test_restricted_namespaces_stop_ordinary_users(
    bare: Machine, knob: str, allowed: int, status: int
) -> None:
    bare.command("id", "echo 1000")
    bare.command("unshare", f"exit {allowed}")
    (bare.bin / "cat").unlink()
    bare.command("cat", f"echo {knob}")
    run = bare.run("check_namespaces")
    assert run.returncode == status
    assert ("run: sudo sysctl" in run.stderr) == bool(status)


def test_it_says_how_it_is_called() -> None:
    run = subprocess.run([SETUP, "everything"], capture_output=True, text=True, env=os.environ)
    assert run.returncode == 1
    assert "setup.sh build|demo|test|conformance|bench" in run.stderr
