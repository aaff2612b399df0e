"""What the tests of the handlers share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.worlds import World, without_threads

Build = Callable[..., World]


@pytest.fixture
def plain_mask() -> Iterator[None]:
    old = os.umask(0)
    yield
    os.umask(old)


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch, plain_mask: None) -> Iterator[None]:
    """Handlers run without an event loop, copies included."""
    with without_threads(monkeypatch):
        yield


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    """An empty lower layer."""
    (tmp_path / "lower").mkdir()
    return tmp_path / "lower"


@pytest.fixture
def build(tmp_path: Path, lower: Path) -> Iterator[Build]:
    """Open a union over *lower*; all are closed at the end."""
    with ExitStack() as stack:

        def build(**how: object) -> World:
            lowers = (os.fsencode(lower),)
            return stack.enter_context(
                World(os.fsencode(tmp_path / "world"), lowers, **how)  # type: ignore[arg-type]
            )

        yield build
