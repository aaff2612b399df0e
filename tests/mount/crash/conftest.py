from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.crash_cases import CASES, STACK, WITH_EXTENSION
from tests.support.crashes import Stage
from tests.support.fixtures import arena, scratch  # noqa: F401
from tests.support.mounts import KernelOverlay, Spawner
from tests.support.runner import Runner
from tests.support.shop import Image, make_images
from tests.support.stacks import build_stack


@pytest.fixture(scope="session")
def spawner(arena: bytes) -> Iterator[Spawner]:  # noqa: F811
    spawner = Spawner()
    yield spawner
    spawner.close()


@pytest.fixture(scope="session")
def lowers(arena: bytes) -> tuple[bytes, ...]:  # noqa: F811
    """The layers of all trials: the inode numbers that they give are the same for each."""
    return build_stack(arena + b"/crash-layers", STACK, writable=False).lowers


@pytest.fixture
def stage(scratch: bytes, lowers: tuple[bytes, ...], spawner: Spawner) -> Stage:  # noqa: F811
    return Stage(scratch + b"/stage", lowers, spawner)


@pytest.fixture
def nested(
    scratch: bytes,  # noqa: F811
    lowers: tuple[bytes, ...],
    spawner: Spawner,
) -> Iterator[Stage]:
    """A stage on the kernel's overlayfs, which that one cannot mount on itself."""
    below = build_stack(scratch + b"/host", [[]])
    with KernelOverlay(below, scratch + b"/root", options=b"index=off") as host:
        stage = Stage(host.root + b"/stage", lowers, spawner)
        stage.for_the_kernel = False
        yield stage


@pytest.fixture(scope="session")
def runner(arena: bytes) -> Iterator[Runner]:  # noqa: F811
    """After the arena, which may begin a mount namespace: commands have to see the same mounts."""
    runner = Runner()
    yield runner
    runner.close()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image]:
    return make_images(tmp_path_factory.mktemp("images"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give tests with a ``case_name`` one for each case; some need the extension."""
    if "case_name" in metafunc.fixturenames:
        names = [
            pytest.param(name, marks=pytest.mark.needs_extension if name in WITH_EXTENSION else ())
            for name in CASES
        ]
        metafunc.parametrize("case_name", names)
