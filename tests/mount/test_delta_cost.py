"""What a commit looks at grows with what was changed, and not with the image."""

from __future__ import annotations

import os

import pytest

from tests.property.test_delta import delta_tar
from tests.support.stacks import Dir, File, Link, build_stack
from unionfs.union import tree as trees

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]
STACK = [
    [
        *(File(b"many/%d/%d/file" % (a, b)) for a in range(20) for b in range(20)),
        File(b"links/one", b"1"),
        Link(b"links/two", b"links/one"),
        Dir(b"empty"),
    ]
]


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts directories that are read."""
    count = [0]
    scan = trees.scan

    def counted(part):
        count[0] += 1
        return scan(part)

    monkeypatch.setattr(trees, "scan", counted)
    return count


def test_only_what_has_changes_is_read(scratch, union, looked_at) -> None:
    layers = build_stack(scratch + b"/s", STACK)
    mounted = union(layers)
    with open(mounted.root + b"/many/3/4/file", "ab") as file:
        file.write(b"more")
    mounted.unmount()
    looked_at[0] = 0
    assert len(delta_tar(layers)) > 1024
    assert 0 < looked_at[0] < 20


def test_one_name_of_two_takes_the_other_along(scratch, union) -> None:
    layers = build_stack(scratch + b"/s", STACK)
    mounted = union(layers)
    with open(mounted.root + b"/links/one", "ab") as file:
        file.write(b"more")
    mounted.unmount()
    data = delta_tar(layers)
    assert b"links/one" in data
    assert b"links/two" in data
    assert not os.path.exists((layers.upper or b"") + b"/links/two")
