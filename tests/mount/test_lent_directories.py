"""What is told of lent directories themselves (_lent.c), and what is read of them but once."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.mount.test_lent import walk
from tests.support import trees
from tests.support.extension import by_python, stats
from tests.support.files import opened
from tests.support.stacks import (
    Device,
    Dir,
    Fifo,
    File,
    Layers,
    Link,
    Symlink,
    Whiteout,
    build_stack,
)

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_extension]

LAYERS = [
    [
        *(File(b"a/file"), File(b"a/b/deep/file"), File(b"a/b/other"), File(b"c/file")),
        *(Dir(b"a/b", 0o750, uid=7, gid=8), Dir(b"empty"), Fifo(b"odd/pipe"), Device(b"odd/null")),
        *(Symlink(b"odd/link", b"pipe"), Whiteout(b"odd/gone"), File(b"odd/\xff\xfe")),
        *(File(b"odd/" + b"n" * 255), File(b"odd/twice"), Link(b"odd/again", b"odd/twice")),
        *(Dir(b"odd/dir", 0o700), File(b"odd/dir/in"), File(b"odd/.wh.is a file")),
    ]
]
STEPS: dict[str, Callable[[bytes], object]] = {
    "chmod": lambda path: os.chmod(path, 0o701),
    "chown": lambda path: os.chown(path, 3, 4),
    "utime": lambda path: os.utime(path, ns=(5, 6)),
    "attribute": lambda path: os.setxattr(path, b"user.note", b"new"),
    "file": lambda path: os.close(os.open(path + b"/new", os.O_CREAT | os.O_WRONLY)),
    "directory": lambda path: os.mkdir(path + b"/new"),
    "below": lambda path: os.chmod(path + b"/deep/file", 0o600),
    "removal": lambda path: os.unlink(path + b"/other"),
    "renamed": lambda path: os.rename(path + b"/other", path + b"/deep/other"),
    "moved": lambda path: os.rename(path, path + b"2"),
    "its parent moved": lambda path: os.rename(os.path.dirname(path), path[:-3] + b"e"),
}
_SEEN = ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_ctime_ns")


@pytest.fixture
def layers(scratch: bytes) -> Layers:
    return build_stack(scratch + b"/s", LAYERS)


def seen(path: bytes) -> list[int]:
    st = os.stat(path)
    return [getattr(st, name) for name in _SEEN]


@pytest.mark.default_mode
def test_a_directory_that_stays_needs_no_python(union: Callable, layers: Layers) -> None:
    """Whatever happens elsewhere: the kernel asks after each listing, for the access time."""
    root = union(layers).root
    for way in (b"", b"/a", b"/a/b", b"/c"):
        os.listdir(root + way)
    os.chmod(root + b"/c/file", 0o600)
    os.unlink(root + b"/c/file")

    def work() -> None:
        for way in (b"/a", b"/a/b"):
            with opened(root + way, os.O_RDONLY | os.O_DIRECTORY) as fd:
                os.listdir(fd)
                st = os.fstat(fd)
                assert st.st_mtime_ns == os.stat(layers.lowers[-1] + way).st_mtime_ns

    assert by_python(root, work) == 0


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("loaded", [False, True])
def test_a_change_shows_at_once(union: Callable, layers: Layers, step: str, loaded: bool) -> None:
    root = union(layers).root
    assert layers.upper is not None
    before = os.stat(root + b"/a/b")
    for way in (b"/a", b"/a/b", b"/a/b/deep"):
        os.listdir(root + way)
        os.stat(root + way)
    if loaded:
        os.utime(root + b"/a/file")
    STEPS[step](root + b"/a/b")
    name = {"moved": b"/a/b2", "its parent moved": b"/e/b"}.get(step, b"/a/b")
    own = layers.upper + name
    for _ in range(2):
        assert os.stat(root + name).st_ino == before.st_ino
        truth = own if os.path.exists(own) else layers.lowers[-1] + b"/a/b"
        assert seen(root + name) == seen(truth)
        os.listdir(root + name)  # its access time may have changed: the kernel asks again
    assert stats(root)["unforeseen_errors"] == 0


def test_what_was_listed_is_loaded_as_it_is(union: Callable, layers: Layers) -> None:
    """Once read by the extension, once not: the first change in it loads a directory."""
    found = []
    for listed in (True, False):
        own = [layers.lowers[-1] + b"-%d%c" % (listed, kind) for kind in b"uw"]
        for path in own:
            os.mkdir(path)
        root = union(replace(layers, upper=own[0], work=own[1])).root
        if listed:
            assert set(os.listdir(root + b"/odd")) > {b"pipe", b"link", b"\xff\xfe", b"n" * 255}
        os.mkdir(root + b"/odd/dir/new", 0o700)
        os.rmdir(root + b"/odd/dir/new")
        os.chmod(root + b"/odd/again", 0o640)
        os.chmod(root + b"/odd/twice", 0o600)
        assert os.lstat(root + b"/odd/again").st_nlink == 2
        os.rmdir(root + b"/empty")
        for path in (b"/odd/dir", b""):
            os.utime(root + path, ns=(1, 2))
        found.append(walk(root))
    trees.assert_same(*found, ("listed", "not listed"))
