"""The tables where owners, modes and types are in an attribute, as for an ordinary user.

Root's daemon keeps them there as well where it is told to (``xattr_permissions=2``): so all callers
of the tables ask, root among them, as whom the mounting user acts in such a tree. To the kernel's
overlayfs the disk then has another tree, so the union itself mounts it afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.mount.parity.test_calls import TABLES, tables  # noqa: F401
from tests.support.calls import Case
from tests.support.compared import Difference
from tests.support.examples import FULL
from tests.support.fixtures import COMPARED
from tests.support.mounts import UNION_OPTIONS, Mounted, SessionMount, Spawner
from tests.support.stacks import Layers

# Not those: the attribute takes room in the inode, and of what another program left in the upper
# the disk's own ACLs are not shown, and special files take no ACL or attribute.
_OTHERWISE = ("acl", "data", "xattr")
SOME = sorted(TABLES.keys() - _OTHERWISE)
SAMPLED = 1 if FULL else 12  # of so many cases one is tried

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


@pytest.fixture(scope="module")
def mount_union(arena) -> Iterator[Callable[[Layers, bytes], Mounted]]:
    spawner = Spawner()
    options = [*UNION_OPTIONS, b"xattr_permissions=2"]
    yield lambda layers, target: SessionMount(layers, target, spawner, options=options)
    spawner.close()


@pytest.fixture(scope="module")
def again(mount_union):
    return mount_union


@pytest.fixture(scope="module")
def cases() -> dict[str, Sequence[Case]]:
    return {name: TABLES[name][::SAMPLED] for name in SOME}


def _attribute(one: Difference) -> bool:
    """Return whether only this differs: the attribute takes a block, of 4 KiB."""
    is_number = one.facet.endswith(".blocks") and isinstance(one.ours, int)
    return is_number and one.ours - 8 in (one.plain, one.kernel)


@pytest.mark.parametrize("table", [pytest.param(name, marks=COMPARED) for name in SOME])
def test_answers_agree(tables, table):  # noqa: F811
    wrong = [one for case in tables.outcome(table).wrong for one in case if not _attribute(one)]
    text = "\n".join(str(one) for one in wrong[:20])
    assert not wrong, f"{len(wrong)} differences:\n{text}"
