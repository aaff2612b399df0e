"""RENAME_NOREPLACE and RENAME_EXCHANGE, over files and directories of every layer."""

from __future__ import annotations

import errno
import itertools
import os

import pytest

from tests.support import kernel, trees
from tests.support.files import ino, read, refused, write
from tests.support.fixtures import compared
from tests.support.stacks import Dir, File, Symlink, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

LOWER = [
    File(b"file", b"lower file", 10),
    File(b"dir/inside"),
    File(b"merged/low"),
    Symlink(b"link", b"file"),
    Dir(b"p/q"),
]
NAMES = (b"file", b"dir", b"merged", b"link", b"made-file", b"made-dir")


@pytest.fixture
def layers(scratch):
    return build_stack(scratch + b"/s", [LOWER, [File(b"merged/mid")]])


@pytest.fixture
def mounted(union, layers):
    mounted = union(layers)
    write(mounted.root + b"/made-file", b"made")
    os.mkdir(mounted.root + b"/made-dir")
    write(mounted.root + b"/made-dir/new", b"new")
    return mounted


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(NAMES, 2)))
@compared
def test_exchange(mounted, again, layers, one, other):
    """Everything with everything; the kernel's overlayfs then sees it so as well."""
    root = mounted.root
    numbers = ino(root + b"/" + one), ino(root + b"/" + other)
    before = trees.snapshot(root)
    kernel.renameat2(root + b"/" + one, root + b"/" + other, kernel.RENAME_EXCHANGE)
    assert (ino(root + b"/" + other), ino(root + b"/" + one)) == numbers
    after = trees.snapshot(root)
    assert _below(before, one) == _below(after, other)
    assert _below(before, other) == _below(after, one)
    mounted.unmount()
    trees.assert_same(after, trees.snapshot(again(layers).root), ("union", "kernel"))


def _below(tree: trees.Tree, name: bytes) -> dict[bytes, tuple]:
    """Return kind and content of *name* and of all below it, by path from there."""
    return {
        path[len(name) :]: (node.kind, node.mode, node.content, node.target)
        for path, node in tree.nodes.items()
        if path == name or path.startswith(name + b"/")
    }


def test_noreplace(mounted):
    root = mounted.root
    for one, other in itertools.permutations(NAMES, 2):
        with refused(errno.EEXIST):
            kernel.renameat2(root + b"/" + one, root + b"/" + other, kernel.RENAME_NOREPLACE)
    for name in NAMES:
        kernel.renameat2(root + b"/" + name, root + b"/p/" + name, kernel.RENAME_NOREPLACE)
    assert sorted(os.listdir(root)) == [b"p"]
    assert read(root + b"/p/file") == b"lower file"
    assert sorted(os.listdir(root + b"/p/merged")) == [b"low", b"mid"]


def test_what_cannot_be(mounted):
    root = mounted.root
    both = kernel.RENAME_EXCHANGE | kernel.RENAME_NOREPLACE
    for old, new, flags, number in (
        (b"/file", b"/missing", kernel.RENAME_EXCHANGE, errno.ENOENT),
        (b"/missing", b"/file", kernel.RENAME_EXCHANGE, errno.ENOENT),
        (b"/p", b"/p/q", kernel.RENAME_EXCHANGE, errno.EINVAL),
        (b"/p/q", b"/p", kernel.RENAME_EXCHANGE, errno.EINVAL),
        (b"/p", b"/p/q/r", 0, errno.EINVAL),
        (b"/p/q", b"/p", 0, errno.ENOTEMPTY),
        (b"/file", b"/dir", both, errno.EINVAL),
        (b"/file", b"/x", 64, errno.EINVAL),
    ):
        with refused(number):
            kernel.renameat2(root + old, root + new, flags)
    assert sorted(os.listdir(root)) == sorted([*NAMES, b"p"])


def test_exchanged_with_itself_or_a_link_of_itself(mounted):
    root = mounted.root
    os.link(root + b"/file", root + b"/same")
    number = ino(root + b"/file")
    kernel.renameat2(root + b"/file", root + b"/file", kernel.RENAME_EXCHANGE)
    kernel.renameat2(root + b"/file", root + b"/same", kernel.RENAME_EXCHANGE)
    os.rename(root + b"/file", root + b"/file")
    assert ino(root + b"/file") == ino(root + b"/same") == number
    assert os.lstat(root + b"/file").st_nlink == 2
