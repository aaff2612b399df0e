"""stress-ng's filesystem stressors in a mount (``tests.support.stress``)."""

from __future__ import annotations

import pytest

from tests.support import trees
from tests.support.examples import FULL
from tests.support.fixtures import COMPARED
from tests.support.mounts import UNION_OPTIONS
from tests.support.stacks import Dir, File, Whiteout, build_stack
from tests.support.stress import GROUPS, LOW, run_group

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, *COMPARED]

FIELDS = [field for field in trees.FIELDS if field != "mtime"]


@pytest.fixture
def layers(scratch):
    above = [Whiteout(b"work/gone"), File(b"work/dir/above"), Dir(b"work/dir/more")]
    return build_stack(scratch + b"/s", [[*LOW, File(b"work/gone")], above])


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("group", GROUPS)
def test_stressors_run_clean(union, again, layers, group):
    """They find no fault, and what was there before is there afterwards, and nothing else."""
    mounted = union(layers)
    before = trees.snapshot(mounted.root)
    run_group(group, mounted.root + b"/work", mounted.root)
    after = trees.snapshot(mounted.root)
    trees.assert_same(before, after, ("before", "after"), fields=FIELDS)
    mounted.unmount()
    trees.assert_same(after, trees.snapshot(again(layers).root), ("union", "another mount"))


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("group", GROUPS if FULL else ["attributes"])
def test_where_owners_are_kept_aside(union, layers, group):
    """As above, where every owner, mode and ACL is an attribute of its file."""
    how = {"options": (*UNION_OPTIONS, b"userxattr", b"xattr_permissions=2")}
    mounted = union(layers, **how)
    before = trees.snapshot(mounted.root)
    run_group(group, mounted.root + b"/work", mounted.root)
    after = trees.snapshot(mounted.root)
    trees.assert_same(before, after, ("before", "after"), fields=FIELDS)
    mounted.unmount()
    trees.assert_same(after, trees.snapshot(union(layers, **how).root), ("a mount", "the next"))
