"""commit of a container whose files the kernel has by itself (``data=passthrough``)."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_commit_mounted import layer_of
from tests.mount.test_passthrough import PASSES
from tests.support import kernel, leftovers
from tests.support.command import Cli
from tests.support.maps import mapped

pytestmark = PASSES


@pytest.fixture
def root(cli: Cli) -> Iterator[Path]:
    """The mount of the container ``one``."""
    if not leftovers.in_own_namespace():
        kernel.own_mount_namespace()
    cli("create", "tiny", "--name", "one")
    yield Path(cli("mount", "one", "-o", "data=passthrough").strip())
    cli.tidy()
    for image in cli.json("image", "ls"):
        if image["names"] != ["tiny:latest"]:
            cli("image", "rm", "--force", image["id"])


def test_what_is_open_for_writing_is_named_and_refused(cli: Cli, root: Path) -> None:
    """Nothing holds up what is written to it."""
    before = cli.json("image", "ls")
    with open(root / "file", "wb", buffering=0) as file:
        file.write(b"begun")
        assert cli.fails("commit", "one", "two") == (
            "the daemon does not let its mount rest: /file is open for writing, and with"
            " data=passthrough nothing can hold that up: close it, or unmount first"
        )
        assert cli.json("image", "ls") == before
        file.write(b" and done")
        assert (root / "file").read_bytes() == b"begun and done"
    with open(root / "file", "rb") as file:
        cli("commit", "one", "two")
        assert file.read() == b"begun and done"
    assert (layer_of(cli, "two") / "file").read_bytes() == b"begun and done"


def test_what_is_open_does_not_become_a_file_of_a_layer(cli: Cli, root: Path) -> None:
    """A copy of it could not take its place, and the kernel would write to the layer."""
    (root / "file").write_bytes(b"of the layer")
    with open(root / "file", "rb") as file:
        error = cli.fails("commit", "one", "two", "--rebase")
        assert "is made, but container one is not on it" in error
        assert "/file is open, and with data=passthrough cannot be moved to a layer" in error
        assert file.read() == b"of the layer"
    cli("commit", "one", "three", "--rebase")
    layer = layer_of(cli, "three") / "file"
    with open(root / "file", "r+b", buffering=0) as file:
        file.write(b"OF the upper")
        os.fsync(file.fileno())
        assert layer.read_bytes() == b"of the layer"
    assert (root / "file").read_bytes() == b"OF the upper"


def test_what_is_closed_and_mapped_may_be_written(cli: Cli, root: Path) -> None:
    """The kernel has let go of the mount's file, so that nobody has that open."""
    (root / "file").write_bytes(b"begun" * 1000)
    with mapped(os.fsencode(root / "file"), 5000) as memory:
        time.sleep(0.3)
        assert "/file is open for writing" in cli.fails("commit", "--live", "one", "two")
        memory[:5] = b"ended"
        assert (root / "file").read_bytes()[:5] == b"ended"
    cli("commit", "--live", "one", "two")
    assert (layer_of(cli, "two") / "file").read_bytes()[:10] == b"endedbegun"


def test_what_has_become_immutable_may_be_written_by_who_has_it_open(cli: Cli, root: Path) -> None:
    with open(root / "file", "wb", buffering=0) as file:
        file.write(b"begun")
        subprocess.run(["chattr", "+i", root / "file"], check=True)
        try:
            assert "/file is open for writing" in cli.fails("commit", "--live", "one", "two")
            file.write(b" and done")
        finally:
            subprocess.run(["chattr", "-i", root / "file"], check=True)
    cli("commit", "--live", "one", "two")
    assert (layer_of(cli, "two") / "file").read_bytes() == b"begun and done"
