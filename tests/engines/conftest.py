"""One store for all tests of an engine, with a small image loaded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import kernel, leftovers
from tests.support.engine_images import Images, make_images
from tests.support.engines import Engine, mount_program, short_directory


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """What engines load."""
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory, images: Images) -> Iterator[Engine]:
    """Root's engines with the image ``localhost/tiny:1``."""
    if not leftovers.in_own_namespace():
        kernel.own_mount_namespace()
    place = tmp_path_factory.mktemp("engine")
    with short_directory() as short:
        engine = Engine(place, short, mount_program(place))
        engine.podman("load", "-i", images.tiny)
        yield engine
        engine.close()


@pytest.fixture
def nothing_mounted(engine: Engine) -> Iterator[None]:
    """Leave no container of the test, and nothing mounted."""
    yield
    engine.clear()
    assert engine.mounts() == []
