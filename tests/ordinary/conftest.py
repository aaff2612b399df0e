"""An ordinary user, his store, and root's, with the same image in both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.command import Cli
from tests.support.ordinary import User, ordinary_user


@pytest.fixture(scope="session")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """Somebody who is not root."""
    with ordinary_user(tmp_path_factory.mktemp("ordinary")) as user:
        yield user


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Root's own command, with a store of its own."""
    return Cli(tmp_path_factory.mktemp("roots") / "store")
