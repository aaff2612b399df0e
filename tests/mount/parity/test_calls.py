"""Every table of this directory: the union answers as a plain directory does, call by call.

Where the kernel's overlayfs does not, ``exceptions-calls`` says which of the two we follow; in a
user namespace ``exceptions-namespace-tmpfs`` says more, or where the layers are on a disk
``exceptions-namespace-ext4``.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterator, Sequence

import pytest

from tests.support import kernel, parity
from tests.support.calls import Case
from tests.support.compared import Mounter, Tables
from tests.support.disks import drop_disk, make_disk
from tests.support.extension import FEATURES
from tests.support.fixtures import COMPARED, arena, compared, mount_union  # noqa: F401
from tests.support.machine import filesystem
from tests.support.stacks import IN_NAMESPACE

_HERE = os.path.dirname(__file__)
_ROWS = parity.load(os.path.join(_HERE, "exceptions-calls"))
_NAMES = sorted(
    name[:-3]
    for name in os.listdir(_HERE)
    if name.endswith(".py") and not name.startswith(("test_", "_"))
)
TABLES = {name: importlib.import_module(f"tests.mount.parity.{name}").CASES for name in _NAMES}

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, *COMPARED]


@pytest.fixture(scope="module")
def again() -> Mounter | None:
    """Return who mounts afterwards what the union wrote; None: who usually does."""
    return None


@pytest.fixture(scope="module")
def cases() -> dict[str, Sequence[Case]]:
    """Return what is compared, by table."""
    return TABLES


@pytest.fixture(scope="module")
def tables(arena, mount_union, again, cases, tmp_path_factory) -> Iterator[Tables]:  # noqa: F811
    image, mounted = arena + b"/tables.img", False
    if IN_NAMESPACE:
        disk = tempfile.mkdtemp(dir=arena)
    else:
        disk = os.fsencode(tmp_path_factory.mktemp("tables"))  # beside the arena, as open as that
        mounted = make_disk(disk, image)
    os.chmod(disk, 0o755)
    rows = [*_ROWS, *_more_rows(arena)]
    found = Tables(cases, disk, mount_union, rows, lacks=_lacking(), again=again)
    yield found
    found.close()
    if mounted:
        drop_disk(disk, image)


def _more_rows(arena: bytes) -> list[parity.Row]:  # noqa: F811
    """Return what is different besides in a user namespace, where the layers are in *arena*."""
    if not IN_NAMESPACE:
        return []
    kind = "tmpfs" if filesystem(os.fsdecode(arena)) == b"tmpfs" else "ext4"
    return parity.load(os.path.join(_HERE, f"exceptions-namespace-{kind}"))


def _lacking() -> frozenset[str]:
    """Return what the tables may name and cannot be had: without the extension, on this kernel."""
    pure = os.environ.get("UNIONFS_PURE") == "1"
    return frozenset(one.name for one in FEATURES if pure or kernel.release() < one.linux)


@pytest.mark.parametrize(
    ("table", "index"),
    [
        pytest.param(name, index, id=f"{name}-{index}-{case}")
        for name, cases in TABLES.items()
        for index, case in enumerate(cases)
    ],
)
def test_answers_agree(tables, table, index):
    wrong = tables.outcome(table).wrong[index]
    text = "\n".join(str(one) for one in wrong[:20])
    assert not wrong, f"{len(wrong)} differences:\n{text}"


@pytest.mark.needs_extension
@compared
def test_every_row_is_needed(tables, arena):  # noqa: F811
    """In a user namespace, of those that are for it; the others are for the machine's root."""
    used = set().union(*(tables.outcome(table).used for table in TABLES))
    rows = _more_rows(arena) if IN_NAMESPACE else _ROWS
    if IN_NAMESPACE and filesystem(os.fsdecode(arena)) not in (b"tmpfs", b"ext4"):
        rows = []  # another disk may need fewer than ext4
    assert not [row for row in rows if row not in used]
