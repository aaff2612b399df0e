"""A store with a tiny image, an empty directory to mount on, and a resident spawner."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Cli
from tests.support.resident import Spawner, asking_at
from tests.support.tinyroot import make_root
from unionfs.daemon import client


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root filesystem with sh in it."""
    path = tmp_path_factory.mktemp("tiny")
    make_root(str(path))
    return path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Cli:
    """A store with the image ``tiny`` for the tests of one file."""
    cli = Cli(tmp_path_factory.mktemp("stores") / "store")
    cli("image", "import", f"rootfs:{tiny}", "--name", "tiny")
    return cli


@pytest.fixture
def cli(shared: Cli) -> Iterator[Cli]:
    """The shared store, without containers before and after."""
    yield shared
    shared.tidy()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An empty directory to mount on."""
    path = tmp_path / "target"
    path.mkdir()
    return path


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir(0o700)
    return tmp_path / "run" / "serve"


@pytest.fixture
def spawner(socket_path: Path) -> Iterator[Spawner]:
    made = Spawner(socket_path)
    yield made
    made.end()
    assert not socket_path.exists()


@pytest.fixture
def asking(spawner: Spawner) -> dict[str, str]:
    """The environment of those who ask the spawner."""
    return asking_at(spawner.path)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """A directory with lower, upper and work directories and a mount point in it."""
    for name in ("low", "up", "work", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "low" / "file").write_text("content")
    yield tmp_path
    point = os.fsencode(tmp_path / "merged")
    if client.is_mount_point(point):
        client.unmount(point, lazy=True)
