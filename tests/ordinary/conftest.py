"""An ordinary user's store, and root's, with the same image in both."""

from __future__ import annotations

import pytest

from tests.support.command import Cli


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Root's own command, with a store of its own."""
    return Cli(tmp_path_factory.mktemp("roots") / "store")
