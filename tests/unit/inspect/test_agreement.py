"""``explain`` says what the kernel's overlayfs shows, for every path that any layer speaks of."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings

from tests.support.examples import COUNT, common_settings
from tests.support.explaining import assert_agrees, every_path, plain_source
from tests.support.mounts import KernelOverlay
from tests.support.stacks import File, Layers, Link, build_stack, rich_stack
from tests.support.strategies import stacks
from unionfs.inspect.copies import Copy
from unionfs.union.reasons import How

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_kernel_overlay]
_number = itertools.count()


def _paths(layers: Layers, root: bytes) -> set[bytes]:
    upper = [layers.upper] if layers.upper is not None else []
    return every_path(*layers.lowers, *upper, root) | {b"/no/such", b"/nothing"}


def test_a_stack_with_one_of_everything(scratch, overlay):
    layers = build_stack(scratch + b"/s", rich_stack())
    root = overlay(layers).root
    said = assert_agrees(plain_source(layers), root, _paths(layers, root))
    deleted = {one.asked for one in said if one.blame and one.blame.how is How.WHITEOUT}
    assert {b"/dir/hidden", b"/gone", b"/merged/one"} <= deleted
    opaque = {one.asked for one in said if one.blame and one.blame.how is How.OPAQUE}
    assert b"/opaque/below" in opaque


def test_what_the_kernel_changed(scratch, overlay):
    """Redirects, opaque directories, whiteouts and copies of hard links, as the kernel does."""
    layers = build_stack(scratch + b"/s", rich_stack())
    root = overlay(layers).root
    os.rename(root + b"/merged", root + b"/dir/moved")
    os.rename(root + b"/dir/moved/common", root + b"/dir/moved/again")
    os.rename(root + b"/dir", root + b"/elsewhere")
    os.mkdir(root + b"/dir")
    shutil.rmtree(root + b"/opaque")
    os.mkdir(root + b"/opaque")
    with open(root + b"/links/first", "ab") as file:
        file.write(b" and more")
    os.unlink(root + b"/becomes-file")
    said = assert_agrees(plain_source(layers), root, _paths(layers, root))
    by_path = {one.asked: one for one in said}
    assert by_path[b"/links/second"].shown.layer.label == "upper"
    moved = by_path[b"/elsewhere/moved"].steps[-1].verdicts
    assert {one.elsewhere for one in moved} >= {b"/merged"}
    assert by_path[b"/dir/plain"].blame.how is How.OPAQUE


@settings(common_settings, max_examples=max(COUNT // 5, 10))
@given(stack=stacks(links=True))
def test_random_stacks(arena, stack):
    folder = arena + b"/e%d" % next(_number)
    layers = build_stack(folder, stack)
    with KernelOverlay(layers, folder + b"/merged") as mounted:
        assert_agrees(plain_source(layers), mounted.root, _paths(layers, mounted.root))
    subprocess.run(["rm", "-rf", "--", folder], check=True)


def test_same_content_is_found_by_reading(scratch, overlay):
    big = 3 << 20
    lower = [File(b"f", b"12", big), File(b"g", b"1", 5), Link(b"h", b"g")]
    upper = [File(b"f", b"12", big), File(b"g", b"2", 5)]
    layers = build_stack(scratch + b"/s", [lower, upper])
    root = overlay(layers).root
    said = {one.asked: one for one in assert_agrees(plain_source(layers), root, [b"/f", b"/g"])}
    hidden: list[Copy] = [one.copies[1] for one in said.values()]
    assert [one.same for one in hidden] == [True, False]
