"""Requests that Python answers without pyfuse3 (_direct.c), and those that it leaves to it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

import pytest

from tests.support import kernel
from tests.support.extension import by_python, stats
from tests.support.files import opened, read, refused, write
from tests.support.stacks import Dir, File, Layers, Link, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_extension]

LAYERS = [
    [
        *(File(b"low", b"low", 3), File(b"copied", b"copy", 4), File(b"d/in", b"in", 2)),
        *(File(b"two", b"2", 1), Link(b"names", b"two"), Dir(b"empty")),
    ]
]
PASSED = 10  # FORGETs that a busy kernel may keep behind other requests (fuse_dev_do_read())


@pytest.fixture
def layers(scratch: bytes) -> Layers:
    return build_stack(scratch + b"/s", LAYERS)


def directly(root: bytes, work: Callable[[], object]) -> int:
    """Return how many of the requests that *work* makes are answered without pyfuse3."""

    def count() -> int:
        found = stats(root)
        assert found["unforeseen_errors"] == 0
        return int(found["answered_directly"])

    before = count()
    work()
    return count() - before


def test_files_come_move_and_go(union, layers):
    root = union(layers).root

    def work() -> None:
        write(root + b"/new", b"content")  # 1
        os.rename(root + b"/new", root + b"/d/moved")  # 2
        write(root + b"/other", b"another")  # 3
        os.rename(root + b"/other", root + b"/d/moved")  # 4: in the place of the first
        os.unlink(root + b"/low")  # 5: a whiteout
        os.rmdir(root + b"/empty")  # 6

    assert directly(root, work) == 6
    assert read(root + b"/d/moved") == b"another"
    assert sorted(os.listdir(root)) == [b"copied", b"d", b"names", b"two"]
    assert directly(root, lambda: os.unlink(root + b"/d/moved")) == 1
    assert os.listdir(root + b"/d") == [b"in"]


def test_a_new_file_is_the_callers(union, layers):
    root = union(layers).root
    os.mkdir(root + b"/group")
    os.chown(root + b"/group", 0, 7)
    os.chmod(root + b"/group", 0o2777)
    old = os.umask(0o027)
    try:
        fd = os.open(root + b"/group/new", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    finally:
        os.umask(old)
    with opened(root + b"/group/new", os.O_RDONLY) as again:
        os.write(fd, b"by its maker")
        assert os.pread(again, 100, 0) == b"by its maker"
    st = os.fstat(fd)
    os.close(fd)
    assert (st.st_mode, st.st_gid, st.st_nlink) == (stat.S_IFREG | 0o640, 7, 1)
    assert st.st_ino == os.stat(root + b"/group/new").st_ino
    assert [entry.inode() for entry in os.scandir(root + b"/group")] == [st.st_ino]


def test_what_takes_more_is_left_to_pyfuse3(union, layers):
    """What has to be copied up first, directories that move, and flags."""
    root = union(layers).root

    def work() -> None:
        os.unlink(root + b"/two")  # a lower file whose other name goes on counting right
        os.rename(root + b"/d", root + b"/e")
        os.rename(root + b"/copied", root + b"/e/copy")
        kernel.renameat2(root + b"/names", root + b"/free", kernel.RENAME_NOREPLACE)
        os.close(os.open(root, os.O_TMPFILE | os.O_RDWR, 0o600))

    assert directly(root, work) == 0
    assert os.stat(root + b"/free").st_nlink == 1
    assert read(root + b"/e/copy") == b"copy"
    assert read(root + b"/e/in") == b"in"


def test_removing_asks_python_for_the_removals_alone(union, scratch):
    """The kernel asks for a directory's attributes after each change in it."""
    files = [b"a/b/1", b"a/b/2", b"a/3", b"a/4"]
    layers = build_stack(scratch + b"/s", [[File(path) for path in files]])
    root = union(layers).root
    for path in files:
        os.stat(root + b"/" + path)

    def work() -> None:
        for path in files:
            os.unlink(root + b"/" + path)

    assert by_python(root, work) == len(files)
    for way in (b"/a", b"/a/b"):
        st, made = os.stat(root + way), os.stat(layers.upper + way)
        assert (st.st_ctime_ns, st.st_mtime_ns) == (made.st_ctime_ns, made.st_mtime_ns)


def test_what_is_refused_is_refused_at_once(union, layers):
    root = union(layers).root

    def work() -> None:
        with refused(errno.ENOTEMPTY):
            os.rmdir(root + b"/d")
        with refused(errno.EINVAL):
            write(root + b"/.wh.low", b"")
        with refused(errno.EINVAL):
            os.rename(root + b"/low", root + b"/.wh.low")

    assert directly(root, work) == 3
    assert read(root + b"/low") == b"low"


def test_removed_files_go_on_and_are_let_go(union, layers):
    """A removed file is held until the kernel forgets it, which is heard without pyfuse3, too."""
    root = union(layers).root
    before = stats(root)["descriptors"]
    for number in range(50):
        path = root + b"/%d" % number
        with opened(path, os.O_CREAT | os.O_RDWR) as fd:
            os.write(fd, b"%d" % number)
            os.unlink(path)
            assert os.fstat(fd).st_nlink == 0
            assert os.pread(fd, 10, 0) == b"%d" % number
    found = stats(root)
    assert found["requests"]["forget"]["count"] >= 50 - PASSED
    assert found["descriptors"] <= before + 2 + PASSED


def test_what_removals_let_go_is_gone_for_who_asks_next(union, scratch):
    """While names are removed the kernel's word of that waits; for nothing else."""
    many = [b"f%03d" % number for number in range(124)]
    root = union(build_stack(scratch + b"/s", [[File(name) for name in many]])).root
    before = stats(root)["nodes"]
    for name in many:
        os.stat(root + b"/" + name)
    assert stats(root)["nodes"] >= before + len(many)
    for name in many:
        os.unlink(root + b"/" + name)
    assert stats(root)["nodes"] <= before + PASSED
