"""Unix sockets with names in the mount: bound, called, moved, and what a layer brings of them."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys

import pytest

from tests.support import sockets, trees
from tests.support.files import as_user
from tests.support.stacks import IN_NAMESPACE, File, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

FIELDS = [field for field in trees.FIELDS if field != "mtime"]
FORGET = () if IN_NAMESPACE else ("forget",)  # which only the machine's root can


def _talk(root: bytes, *how: str) -> str:
    words = [sys.executable, "-m", "tests.support.sockets", root, *how]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("pure", [False, True], ids=["extension", "pure"])
def test_as_in_a_plain_directory(scratch, union, monkeypatch, pure):
    if pure:
        monkeypatch.setenv("UNIONFS_PURE", "1")
    layers = build_stack(scratch + b"/s", [[], [File(b"other/upper")]])
    sockets.build(layers.lowers[-1])
    plain = scratch + b"/plain"
    os.mkdir(plain)
    sockets.build(plain)
    File(b"upper").make(plain + b"/other/upper")
    mounted = union(layers)
    assert _talk(mounted.root, *FORGET) == _talk(plain)
    mounted.unmount()
    again = trees.snapshot(union(layers).root)
    trees.assert_same(trees.snapshot(plain), again, ("plain", "union"), fields=FIELDS)


def test_who_may_not_write_may_not_connect(scratch, union):
    root = union(build_stack(scratch + b"/s", [[]])).root
    os.chmod(root, 0o755)

    def connect() -> None:
        with socket.socket(socket.AF_UNIX) as client:
            os.chdir(root)
            client.connect(b"s")

    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(root)
        try:
            server.bind(b"s")
        finally:
            os.chdir(here)
        server.listen(2)
        os.chmod(root + b"/s", 0o755)
        assert as_user(connect) == errno.EACCES
        os.chmod(root + b"/s", 0o777)
        assert as_user(connect) == 0
