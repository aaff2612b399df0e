"""Mounts made with ``data=passthrough``: the kernel has the upper's files. Some of the tables.

UNIONFS_TEST_OPTIONS=data=passthrough runs all of them, and every other test that mounts, in such
mounts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.mount.parity.test_calls import again, tables  # noqa: F401
from tests.mount.parity.test_recorded import assert_agreed, mounting, sampled
from tests.mount.test_passthrough import PASSES, PASSING
from tests.support.calls import Case
from tests.support.fixtures import COMPARED
from tests.support.mounts import UNION_OPTIONS, Mounted
from tests.support.stacks import Layers

SOME = ("data", "open")

pytestmark = PASSES


@pytest.fixture(scope="module")
def mount_union(arena) -> Iterator[Callable[[Layers, bytes], Mounted]]:
    with mounting([*UNION_OPTIONS, *PASSING]) as mount:
        yield mount


@pytest.fixture(scope="module")
def cases() -> dict[str, Sequence[Case]]:
    return sampled(SOME)


@pytest.mark.parametrize("table", [pytest.param(name, marks=COMPARED) for name in SOME])
def test_data_and_opening_agree(tables, cases, table):  # noqa: F811
    assert_agreed(tables.outcome(table), cases[table])
