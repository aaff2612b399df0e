"""The servers that the bench takes for a floor show their layers' tree, and take changes."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from scripts.bench.contenders import FLOORS, HOLLOW, Stack, all_contenders
from tests.support.files import read, refused, write
from tests.support.stacks import Dir, File, Symlink, Whiteout, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

LAYERS = [
    [File(b"d/below"), File(b"d/gone"), File(b"over/hidden"), Symlink(b"link", b"d/below")],
    [Whiteout(b"d/gone"), Dir(b"over", opaque=True), File(b"over/shown", size=4)],
]


@pytest.fixture(params=FLOORS)
def merged(scratch, request):
    contenders = all_contenders(os.fsdecode(scratch), [request.param], False)
    if not contenders:
        pytest.skip("the floor is compiled when it is wanted, and there is no cc")
    lowers = build_stack(scratch + b"/s", LAYERS, writable=False).lowers
    places = [scratch + name for name in (b"/upper", b"/work", b"/m")]
    for place in places:
        os.mkdir(place)
    stack = Stack(tuple(map(os.fsdecode, lowers)), *map(os.fsdecode, places))
    with contenders[0].mounted(stack):
        yield scratch + b"/m"


on_disk = pytest.mark.parametrize(
    "merged", [name for name in FLOORS if name not in HOLLOW], indirect=True
)


def test_its_layers_are_merged(merged) -> None:
    assert sorted(os.listdir(merged)) == [b"d", b"link", b"over"]
    assert os.listdir(merged + b"/d") == [b"below"]
    assert os.listdir(merged + b"/over") == [b"shown"]
    assert os.readlink(merged + b"/link") == b"d/below"
    assert len(read(merged + b"/over/shown")) == 4
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


@pytest.mark.parametrize("merged", HOLLOW, indirect=True)
def test_files_are_hollow(merged) -> None:
    assert read(merged + b"/over/shown") == bytes(4)
    write(merged + b"/over/shown", b"word")
    assert os.listdir(os.path.dirname(merged) + b"/upper") == []


@on_disk
def test_a_disk_has_what_is_changed(merged) -> None:
    upper = os.path.dirname(merged) + b"/upper"
    content = read(merged + b"/d/below")
    os.chmod(merged + b"/d/below", 0o600)
    assert read(upper + b"/d/below") == content != b""
    write(merged + b"/d/new", b"12345")
    os.rename(merged + b"/d/new", merged + b"/d/newer")
    os.symlink(b"newer", merged + b"/d/to")
    assert read(upper + b"/d/newer") == read(merged + b"/d/to") == b"12345"


@on_disk
def test_a_disk_has_whiteouts_of_what_is_removed(merged) -> None:
    upper = os.path.dirname(merged) + b"/upper"
    os.unlink(merged + b"/d/below")
    assert stat.S_ISCHR(os.lstat(upper + b"/d/below").st_mode)
    write(merged + b"/d/below", b"again")
    assert read(upper + b"/d/below") == b"again"
    os.unlink(merged + b"/d/below")
    os.rmdir(merged + b"/d")
    assert stat.S_ISCHR(os.lstat(upper + b"/d").st_mode)
    os.rename(merged + b"/over/shown", merged + b"/taken")
    assert stat.S_ISCHR(os.lstat(upper + b"/over/shown").st_mode)
