"""A store with a tiny image, and an empty directory to mount on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Cli
from tests.support.tinyroot import make_root


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
