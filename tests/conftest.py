"""The whole suite's rules: what a test may need, where its files are, what it may not leave."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support import leftovers, loaded, machine
from tests.support.ordinary import User, ordinary_user

# A real mount has no steady speed, so no deadline for one example. `make test-full` asks for more.
settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
if os.environ.get("UNIONFS_TEST_USERNS"):  # where the directory of the project is another's
    settings.register_profile("default", settings.get_profile("default"), database=None)
settings.register_profile("full", settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_configure(config: pytest.Config) -> None:
    """Put every temporary file, those of child processes too, on a disk that overlayfs takes.

    And let SIGINT and SIGHUP mean what they mean to a user: a shell starts its background jobs and
    nohup(1) its program, this suite perhaps among them, with the signal ignored, and programs
    inherit that.
    """
    if hasattr(config, "workerinput"):
        from tests.support import workers

        workers.take_signals()
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ["TMPDIR"] = tempfile.tempdir = machine.test_root()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share the tests among one process more than there are processors, as many tests wait."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list[Any]) -> None:
    """Set the processes apart that `make test` shares the tests among."""
    from tests.support import workers

    workers.set_apart(specs)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Say which of them runs what."""
    from tests.support import workers

    return workers.Units(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    """Clear up behind one of them that died; pytest says which test it was running."""
    from tests.support import workers

    if error:
        workers.clear_after(node.gateway.spec)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip a test whose marker names what this machine truly lacks, with the reason."""
    if hasattr(config, "workerinput"):
        from tests.support import workers

        workers.slowest_first(items)
    for item in items:
        for marker, lacks in machine.MARKERS.items():
            if item.get_closest_marker(marker) and (reason := lacks()):
                item.add_marker(pytest.mark.skip(reason=f"{marker}: {reason}"))


@pytest.fixture(scope="session", autouse=True)
def nothing_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the run when a test left a FUSE mount or a daemon, and name it."""
    mark = leftovers.mark_this_session()
    ours = os.fsencode(os.path.realpath(tmp_path_factory.getbasetemp()))
    where = None if leftovers.in_own_namespace() else ours
    before = {entry.mount_id for entry in leftovers.fuse_mounts(where)}
    yield
    loaded.end()
    mounts = [entry for entry in leftovers.fuse_mounts(where) if entry.mount_id not in before]
    processes = leftovers.wait_for_none(mark, seconds=5)
    leftovers.clear(mounts, processes)
    if mounts or processes:
        names = [f"mount {os.fsdecode(entry.target)}" for entry in mounts]
        names += [f"process {process.pid}: {process.words}" for process in processes]
        pytest.fail("the tests left behind:\n  " + "\n  ".join(names), pytrace=False)


@pytest.fixture(scope="session")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """Somebody who is not root; one for the whole run, since /etc/subuid can name him only once."""
    with ordinary_user(tmp_path_factory.mktemp("ordinary")) as user:
        yield user
