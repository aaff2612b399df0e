"""Mounts made with ``record``, where each open, read and listing is a request: some of the tables.

UNIONFS_TEST_OPTIONS=record runs all of them, and every other test that mounts, in such mounts.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.mount.parity.test_calls import TABLES, again, tables  # noqa: F401
from tests.support.calls import Case
from tests.support.compared import Outcome
from tests.support.examples import FULL
from tests.support.files import opened, read, refused
from tests.support.fixtures import COMPARED
from tests.support.mounts import UNION_OPTIONS, Mounted, SessionMount, Spawner
from tests.support.rawcalls import FS_APPEND, FS_IMMUTABLE, set_fs_flags
from tests.support.stacks import File, Layers, build_stack

RECORD = [*UNION_OPTIONS, b"record"]
SOME = ("flags", "open")
SAMPLED = 1 if FULL else 5  # of so many cases one is tried

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


@contextmanager
def mounting(options: Sequence[bytes]) -> Iterator[Callable[[Layers, bytes], Mounted]]:
    """Yield what mounts layers with *options*."""
    spawner = Spawner()
    yield lambda layers, target: SessionMount(layers, target, spawner, options=options)
    spawner.close()


def sampled(names: Sequence[str]) -> dict[str, Sequence[Case]]:
    """Return a part of the tables."""
    return {name: TABLES[name][::SAMPLED] for name in names}


def assert_agreed(outcome: Outcome, cases: Sequence[Case]) -> None:
    wrong = [one for case in outcome.wrong for one in case]
    text = "\n".join(str(one) for one in wrong[:20])
    assert not wrong, f"{len(wrong)} differences:\n{text}"
    assert len(outcome.wrong) == len(cases) > 0


@pytest.fixture(scope="module")
def mount_union(arena) -> Iterator[Callable[[Layers, bytes], Mounted]]:
    """Mount layers so that everything is heard of."""
    with mounting(RECORD) as mount:
        yield mount


@pytest.fixture(scope="module")
def cases() -> dict[str, Sequence[Case]]:
    return sampled(SOME)


@pytest.mark.parametrize("table", [pytest.param(name, marks=COMPARED) for name in SOME])
def test_answers_agree(tables, cases, table):  # noqa: F811
    assert_agreed(tables.outcome(table), cases[table])


@pytest.mark.needs_extension
@pytest.mark.parametrize(("protection", "flags"), [(FS_IMMUTABLE, os.O_APPEND), (FS_APPEND, 0)])
def test_opening_asks_whether_a_file_is_protected(scratch, union, protection, flags):
    """What ``test_limits`` says of other mounts, where opening asks nobody, is not so here."""
    layers = build_stack(scratch + b"/s", [[File(b"f", b"x", 8192, 0o666)]])
    path = union(layers, options=RECORD).root + b"/f"
    with opened(path, os.O_RDONLY) as fd:
        set_fs_flags(fd, protection)
        try:
            with refused(errno.EPERM), opened(path, os.O_WRONLY | flags):
                pass
        finally:
            set_fs_flags(fd, 0, protection)
    with opened(path, os.O_WRONLY | flags):
        pass
    assert read(path) == b"x" * 8192
