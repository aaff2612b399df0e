"""The server that the bench takes for a floor shows its layers' tree, and takes changes."""

from __future__ import annotations

import errno
import os

import pytest

from scripts.bench.contenders import FLOORS, Stack, all_contenders
from tests.support.files import read, refused, write
from tests.support.stacks import Dir, File, Symlink, Whiteout, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

LAYERS = [
    [File(b"d/below"), File(b"d/gone"), File(b"over/hidden"), Symlink(b"link", b"d/below")],
    [Whiteout(b"d/gone"), Dir(b"over", opaque=True), File(b"over/shown", size=4)],
]


@pytest.fixture(params=FLOORS)
def merged(scratch, request):
    contenders = {one.name: one for one in all_contenders(os.fsdecode(scratch), FLOORS, False)}
    if not contenders:
        pytest.skip("the floor is compiled when it is wanted, and there is no cc")
    lowers = build_stack(scratch + b"/s", LAYERS, writable=False).lowers
    os.mkdir(scratch + b"/m")
    words = [os.fsdecode(lower) for lower in lowers]
    stack = Stack(tuple(words), "unused", "unused", os.fsdecode(scratch + b"/m"))
    with contenders[request.param].mounted(stack):
        yield scratch + b"/m"


def test_its_layers_are_merged(merged) -> None:
    assert sorted(os.listdir(merged)) == [b"d", b"link", b"over"]
    assert os.listdir(merged + b"/d") == [b"below"]
    assert os.listdir(merged + b"/over") == [b"shown"]
    assert os.readlink(merged + b"/link") == b"d/below"
    assert read(merged + b"/over/shown") == bytes(4)
    with refused(errno.ENOENT):
        os.lstat(merged + b"/d/gone")


def test_names_come_and_go(merged) -> None:
    os.mkdir(merged + b"/new")
    write(merged + b"/new/file", b"12345")
    with refused(errno.ENOTEMPTY):
        os.rmdir(merged + b"/new")
    os.rename(merged + b"/new/file", merged + b"/d/below")
    assert os.stat(merged + b"/d/below").st_size == 5
    os.chmod(merged + b"/d/below", 0o600)
    assert os.stat(merged + b"/d/below").st_mode & 0o777 == 0o600
    os.unlink(merged + b"/d/below")
    os.rmdir(merged + b"/new")
    assert sorted(os.listdir(merged)) == [b"d", b"link", b"over"]
    assert os.listdir(merged + b"/d") == []
