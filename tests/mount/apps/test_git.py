"""git in the mount, on a repository that came with a lower layer."""

from __future__ import annotations

import os

import pytest

from tests.support.examples import FULL
from tests.support.files import write
from tests.support.git import git
from tests.support.stacks import Dir, build_stack

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.usefixtures("mode"),
    pytest.mark.timeout(1800 if FULL else 300),
]

FILES = 2_000 if FULL else 60
COMMITS = 60 if FULL else 4


def _edit(tree: bytes, step: int) -> None:
    """Change a tenth of the files, move some, remove one, make one."""
    for n in range(step % 10, FILES, 10):
        folder = tree + b"/dir%d" % (n % 13)
        os.makedirs(folder, exist_ok=True)
        write(folder + b"/%d" % n, b"step %d of file %d\n" % (step, n) * 30)
    write(tree + b"/new%d" % step, b"new")
    if step > 2:
        os.rename(tree + b"/new%d" % (step - 1), tree + b"/dir1/old%d" % (step - 1))
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", f"step {step}")


@pytest.fixture
def layers(scratch):
    """A repository with some history, half of it packed, and a clone of it."""
    made = build_stack(scratch + b"/s", [[Dir(b"src")], [Dir(b"other")]])
    tree = made.lowers[-1] + b"/src/repo"
    os.mkdir(tree)
    git(tree, "init", "-q")
    for n in range(FILES):
        os.makedirs(tree + b"/dir%d" % (n % 13), exist_ok=True)
        write(tree + b"/dir%d/%d" % (n % 13, n), b"file %d\n" % n * 30)
    _edit(tree, 0)
    git(tree, "repack", "-q", "-d")
    _edit(tree, 1)
    git(made.lowers[-1] + b"/src", "clone", "-q", "--no-hardlinks", "repo", "clone")
    return made


def _clean(tree: bytes) -> None:
    assert git(tree, "diff-files") == b""  # by stat alone
    assert git(tree, "status", "--porcelain") == b""
    assert git(tree, "fsck", "--full", "--strict", "--no-dangling") == b""


def test_worked_with_packed_and_cloned(union, layers):
    mounted = union(layers)
    src = mounted.root + b"/src"
    tree = src + b"/repo"
    _clean(tree)
    for step in range(2, COMMITS):
        _edit(tree, step)
    git(tree, "checkout", "-q", "-b", "side", "HEAD~1")
    _edit(tree, COMMITS - 1)
    git(tree, "checkout", "-q", "main")
    git(tree, "merge", "-q", "-m", "merge", "side")
    write(tree + b"/dir2/2", b"put aside")
    git(tree, "stash")
    git(tree, "worktree", "add", "-q", src + b"/worktree", "side")
    git(src + b"/worktree", "rebase", "-q", "--force-rebase", "HEAD~1")
    git(tree, "gc", "-q", "--aggressive", "--prune=now")
    _clean(tree)
    git(src, "clone", "-q", "repo", "linked")  # its objects are hard links
    git(src + b"/clone", "pull", "-q")
    git(src + b"/clone", "gc", "-q")
    trees = [src + b"/" + name for name in (b"repo", b"clone", b"linked", b"worktree")]
    said = [git(at, "log", "--stat", "--graph") for at in trees]
    for at in trees:
        _clean(at)
    mounted.unmount()
    src = union(layers).root + b"/src"
    trees = [src + b"/" + os.path.basename(at) for at in trees]
    for at in (trees[0], trees[1], trees[2]):
        _clean(at)
    assert [git(at, "log", "--stat", "--graph") for at in trees[:3]] == said[:3]
    git(trees[0], "stash", "pop", "-q")
    assert git(trees[0], "status", "--porcelain") == b" M dir2/2\n"


def test_status_right_after_copy_up(union, layers):
    """Copying up changes a file's change time: git looks into it once, and finds nothing."""
    tree = union(layers).root + b"/src/repo"
    for n in range(0, FILES, 3):
        os.chmod(tree + b"/dir%d/%d" % (n % 13, n), 0o644)
    assert git(tree, "status", "--porcelain") == b""
    git(tree, "update-index", "--refresh")
    _clean(tree)
