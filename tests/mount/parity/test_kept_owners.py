"""The tables where owners, modes and types are in an attribute, as for an ordinary user.

Root's daemon keeps them there as well where it is told to (``xattr_permissions=2``): so all callers
of the tables ask, root among them, as whom the mounting user acts in such a tree. To the kernel's
overlayfs the disk then has another tree, so the union itself mounts it afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from tests.mount.parity.test_calls import TABLES, tables  # noqa: F401
from tests.support.calls import Case
from tests.support.compared import Difference
from tests.support.examples import FULL
from tests.support.fixtures import COMPARED
from tests.support.mounts import UNION_OPTIONS, Mounted, SessionMount, Spawner
from tests.support.stacks import Layers
from tests.support.things import Thing

# Of these, files and directories that no other program left in the upper: the ACLs that are on the
# disk there are not shown, and special files take no ACL or attribute.
_ITS_OWN = ("acl", "data", "xattr")
_BLOCK = 4000  # bytes of an attribute that fills ext4's block, where the owner's is as well
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
    found = TABLES | {name: [*map(_its_own, TABLES[name])] for name in _ITS_OWN}
    return {name: cases[::SAMPLED] for name, cases in found.items()}


def _its_own(case: Case) -> Case:
    on = [scene for scene in case.on if all(map(_is_its_own, scene))]
    return replace(case, on=[] if _fills_a_block(case) else on)


def _is_its_own(thing: Thing) -> bool:
    return thing.kind in ("file", "dir") and thing.state not in ("upper", "merged")


def _fills_a_block(case: Case) -> bool:
    return any(isinstance(word, bytes) and len(word) == _BLOCK for word in case.args)


def _attribute(one: Difference) -> bool:
    """Return whether only this differs: the attribute takes a block, of 4 KiB.

    And that the ACL is an attribute, whose ctime moves when it is set to what it was.
    """
    if one.facet == "result" and one.trial.subject.startswith("fallocate "):
        match one.ours:
            case (size, blocks):
                return (size, blocks - 1) in (one.plain, one.kernel)
    if one.facet.endswith(".blocks") and isinstance(one.ours, int):
        return one.ours - 8 in (one.plain, one.kernel)
    return one.facet.endswith(".ctime") and one.trial.case.args[-1] == os.XATTR_CREATE


@pytest.mark.parametrize("table", [pytest.param(name, marks=COMPARED) for name in sorted(TABLES)])
def test_answers_agree(tables, table):  # noqa: F811
    wrong = [one for case in tables.outcome(table).wrong for one in case if not _attribute(one)]
    text = "\n".join(str(one) for one in wrong[:20])
    assert not wrong, f"{len(wrong)} differences:\n{text}"
