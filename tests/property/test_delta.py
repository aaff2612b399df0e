"""Random changes, committed: lowers and the new layer show the tree that the container showed.

What wrote the upper is our union and the kernel's overlayfs in turn; what shows the result is the
kernel's overlayfs, which knows nothing of either.
"""

from __future__ import annotations

import io
import itertools
import os
import subprocess
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given, settings

from tests.support import trees
from tests.support.examples import FULL, LENGTH, TIMEOUT, common_settings
from tests.support.mounts import KernelOverlay
from tests.support.ops import OPERATIONS, Op, World, perform
from tests.support.picks import resolve
from tests.support.stacks import Layers, Stack, build_stack
from tests.support.strategies import operations, stacks
from unionfs.container.delta_tar import write_delta
from unionfs.digest import Digest
from unionfs.ondisk.flavour import Flavour
from unionfs.tarball.apply import apply_layer
from unionfs.tarball.limits import Limits
from unionfs.upper.delta import Delta

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_kernel_overlay]
few = settings(common_settings, max_examples=500 if FULL else 15)
_number = itertools.count()
# The count of a file whose other name a layer hides is one too many, until it is copied.
_FIELDS = [name for name in trees.FIELDS if name != "nlink"]  # ``links`` are there


def delta_tar(layers: Layers, *, keep_unchanged: bool = False) -> bytes:
    """Return the layer tar of what *layers* changed."""
    assert layers.upper is not None and layers.work is not None
    out = io.BytesIO()
    places = (layers.lowers, layers.upper, layers.work, Flavour.TRUSTED)
    with closing(Delta(*places, keep_unchanged=keep_unchanged)) as delta:
        digest = write_delta(delta, delta.items(), out, mtime_max=None)
    assert digest == Digest.of(out.getvalue())
    return out.getvalue()


def applied(data: bytes, folder: bytes) -> bytes:
    os.mkdir(folder)
    os.chmod(folder, 0o755)
    fd = os.open(folder, os.O_RDONLY)
    try:
        found = apply_layer(io.BytesIO(data), fd, flavour=Flavour.TRUSTED, limits=Limits())
        assert set(found.implicit_dirs) <= {b"."}
    finally:
        os.close(fd)
    return folder


def plain(tree: trees.Tree) -> trees.Tree:
    """Without what no layer of an image holds: sockets, attributes that are another driver's."""
    return trees.Tree(
        {
            path: replace(node, xattrs=tuple(x for x in node.xattrs if "user.overlay." not in x[0]))
            for path, node in tree.nodes.items()
            if node.kind != "socket"
        }
    )


def check(folder: bytes, mount, stack: Stack, ops: Sequence[Op]) -> None:
    layers = build_stack(folder, stack)
    with mount(layers, folder + b"/m") as mounted:
        world = World("union", mounted.root)
        try:
            for op in ops:
                if op.name in OPERATIONS:
                    perform(world, resolve(op, world))
        finally:
            world.close_all()
        wanted = plain(trees.snapshot(mounted.root))
    if mount is KernelOverlay:
        # What it shows is not always what it wrote: fchmod(2) of a lower file whose name another
        # has by now copies it to that name, over the other, which is shown all the same.
        with mount(layers, folder + b"/m") as mounted:
            wanted = plain(trees.snapshot(mounted.root))
    data = delta_tar(layers)
    assert delta_tar(layers) == data
    for number, tar in enumerate((data, delta_tar(layers, keep_unchanged=True))):
        made = applied(tar, folder + b"/layer%d" % number)
        if not os.listdir(made):
            continue  # nothing was changed, or what the root is: the lowers are the tree
        with KernelOverlay(Layers((made, *layers.lowers)), folder + b"/k%d" % number) as there:
            seen = plain(trees.snapshot(there.root))
        if tar == bytes(1024):
            continue
        trees.assert_same(wanted, seen, ("container", "committed"), fields=_FIELDS)


@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize("writer", ["union", "kernel"])
@few
@given(stack=stacks(links=True), ops=operations("everything", length=LENGTH))
def test_what_was_changed_is_in_the_layer(arena, mount_union, writer, stack, ops):
    folder = arena + b"/delta%d" % next(_number)
    mount = mount_union if writer == "union" else KernelOverlay
    os.umask(0o022)
    try:
        check(folder, mount, stack, ops)
    finally:
        subprocess.run(["rm", "-rf", "--", folder], check=True)


@pytest.mark.parametrize("writer", ["union", "kernel"])
@pytest.mark.parametrize("words", ["rm a", "echo more >> a && rm a", "echo more >> a && rm a b"])
def test_names_whose_copy_has_none_but_that_in_the_index(arena, mount_union, writer, words):
    """A name of a lower file goes: the file is copied for the count, and the others are lower's."""
    folder = arena + b"/delta%d" % next(_number)
    mount = mount_union if writer == "union" else KernelOverlay
    layers = build_stack(folder, [[]])
    (lower,) = layers.lowers
    with open(lower + b"/a", "wb") as file:
        file.write(b"one")
    for name in (b"/b", b"/c"):
        os.link(lower + b"/a", lower + name)
    with mount(layers, folder + b"/m") as mounted:
        subprocess.run(["sh", "-ec", words], cwd=mounted.root, check=True)
        wanted = trees.snapshot(mounted.root)
    made = applied(delta_tar(layers), folder + b"/layer")
    with KernelOverlay(Layers((made, lower)), folder + b"/k") as there:
        seen = trees.snapshot(there.root)
    trees.assert_same(wanted, seen, ("container", "committed"), fields=_FIELDS)
