"""chmod, chown and touch of a whole tree of a layer, as an entry point of an image does it."""

from __future__ import annotations

import os
import stat
import subprocess

import pytest

from tests.support.examples import FULL
from tests.support.files import read
from tests.support.stacks import File, Link, Symlink, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

FOLDERS = 500 if FULL else 15
FILES = 100  # in each


@pytest.fixture
def layers(scratch):
    lower = [File(b"t/%d/%d" % (a, b), b"low", 20) for a in range(FOLDERS) for b in range(FILES)]
    lower += [Link(b"t/%d/link" % a, b"t/%d/0" % a) for a in range(FOLDERS)]
    lower += [Symlink(b"t/%d/symlink" % a, b"0") for a in range(FOLDERS)]
    return build_stack(scratch + b"/s", [lower, [File(b"other")]])


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _every(root: bytes):
    yield root
    for folder, dirs, files in os.walk(root):
        for name in dirs + files:
            yield os.path.join(folder, name)


def test_modes_owners_and_times_of_a_whole_tree(union, layers):
    """Everything is copied up once, nothing is left out, and no descriptor is kept for each."""
    mounted = union(layers)
    tree = mounted.root + b"/t"
    read(tree + b"/0/0")
    before = _descriptors(mounted.pid)
    subprocess.run(["chmod", "-R", "u=rwX,go=", tree], check=True)
    subprocess.run(["chown", "-hR", "1234:2345", tree], check=True)
    # of a directory two, of its hard link one, and what Files keeps: not one of each file
    at_most = before + FOLDERS * 3 + 100
    assert _descriptors(mounted.pid) < at_most
    mounted.unmount()
    again = union(layers).root
    seen = 0
    for path in _every(again + b"/t"):
        st = os.lstat(path)
        assert (st.st_uid, st.st_gid) == (1234, 2345), path
        if not stat.S_ISLNK(st.st_mode):
            assert stat.S_IMODE(st.st_mode) == (0o700 if stat.S_ISDIR(st.st_mode) else 0o600)
        seen += 1
    assert seen == 1 + FOLDERS * (1 + FILES + 2)
    assert os.lstat(again + b"/t/3/link").st_ino == os.lstat(again + b"/t/3/0").st_ino
    assert read(again + b"/t/1/7") == (b"low" * 7)[:20]
    assert os.lstat(layers.lowers[-1] + b"/t/1/7").st_uid == 0
