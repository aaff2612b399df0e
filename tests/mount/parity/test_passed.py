"""Mounts made with ``data=passthrough``: the kernel has the upper's files. Some of the tables.

UNIONFS_TEST_OPTIONS=data=passthrough runs all of them, and every other test that mounts, in such
mounts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.mount.parity.test_calls import TABLES, again, tables  # noqa: F401
from tests.support import kernel
from tests.support.calls import Case
from tests.support.examples import FULL
from tests.support.fixtures import COMPARED
from tests.support.mounts import UNION_OPTIONS, Mounted, SessionMount, Spawner
from tests.support.stacks import Layers

SOME = ("data", "open")
SAMPLED = 1 if FULL else 5  # of so many cases one is tried

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.needs_extension,
    pytest.mark.skipif(kernel.release() < (6, 9), reason="FUSE_PASSTHROUGH came with Linux 6.9"),
]


@pytest.fixture(scope="module")
def mount_union(arena) -> Iterator[Callable[[Layers, bytes], Mounted]]:
    """Mount layers so that the kernel has what is in the upper."""
    spawner = Spawner()
    options = [*UNION_OPTIONS, b"data=passthrough"]
    yield lambda layers, target: SessionMount(layers, target, spawner, options=options)
    spawner.close()


@pytest.fixture(scope="module")
def cases() -> dict[str, Sequence[Case]]:
    return {name: TABLES[name][::SAMPLED] for name in SOME}


@pytest.mark.parametrize("table", [pytest.param(name, marks=COMPARED) for name in SOME])
def test_answers_agree(tables, cases, table):  # noqa: F811
    wrong = [one for case in tables.outcome(table).wrong for one in case]
    text = "\n".join(str(one) for one in wrong[:20])
    assert not wrong, f"{len(wrong)} differences:\n{text}"
    assert len(tables.outcome(table).wrong) == len(cases[table]) > 0
