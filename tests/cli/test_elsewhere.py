"""What is mounted in another mount namespace, which the mount table here does not show."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import WORD, Cli

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

_ELSEWHERE = ["unshare", "--mount", "--propagation", "private", "--"]


@pytest.fixture
def own(tmp_path: Path, tiny: Path) -> Iterator[Cli]:
    """A store of this test's own, with the image ``tiny``."""
    cli = Cli(tmp_path / "store")
    cli("image", "import", f"rootfs:{tiny}", "--name", "tiny")
    yield cli
    cli.tidy()


def _mount_elsewhere(cli: Cli, *words: str) -> None:
    subprocess.run([*_ELSEWHERE, *WORD, "mount", *words], check=True, env=cli.env, timeout=60)


def _daemon(message: str) -> int:
    found = re.search(r"daemon: (\d+)\)", message)
    assert found, message
    return int(found[1])


def test_the_layers_of_a_mounted_image_stay(own: Cli, target: Path) -> None:
    _mount_elsewhere(own, "--image", "tiny", str(target))
    before = own.json("layer", "ls")
    refused = own.fails("image", "rm", "tiny")
    after = own.json("layer", "ls")
    os.kill(_daemon(refused), signal.SIGTERM)
    assert refused.startswith("image tiny:latest is still mounted somewhere")
    assert after == before
    assert "removed layer" in own("image", "rm", "tiny")


def test_layers_that_another_image_keeps_do_not_count(own: Cli, tiny: Path, target: Path) -> None:
    own("image", "import", f"rootfs:{tiny}", "--name", "other", "--platform", "linux/arm64")
    assert len(own.json("image", "ls")) == 2
    assert len(own.json("layer", "ls")) == 1
    _mount_elsewhere(own, "--image", "tiny", str(target))
    assert "removed image" in own("image", "rm", "other")
    os.kill(_daemon(own.fails("image", "rm", "tiny")), signal.SIGTERM)


def test_a_mounted_container_stays_unless_forced(own: Cli, target: Path) -> None:
    own("create", "tiny", "--name", "one")
    upper = own.container("one") / "upper"
    _mount_elsewhere(own, "one", str(target))
    refused = own.run("rm", "one")
    assert refused.returncode == 1
    assert "container one is still mounted somewhere" in refused.stderr
    assert upper.is_dir()
    assert own("rm", "--force", "one") == "one\n"
    assert not upper.exists()
    os.kill(_daemon(refused.stderr), signal.SIGTERM)
