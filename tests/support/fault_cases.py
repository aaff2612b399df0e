"""The changes of ``tests/unit/fuse/test_faults.py``, each by the handlers of a ``World``."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from types import SimpleNamespace
from unittest import mock

from tests.support.files import opened
from tests.support.rawcalls import fs_flags
from tests.support.worlds import ROOT, World
from unionfs.fuse import native
from unionfs.syscalls.flags import SET_FLAGS

RENAME_EXCHANGE = 2
USER = SimpleNamespace(uid=1000, gid=1000, pid=1, umask=0)
ACL = struct.pack(
    "<I" + "HHI" * 4, 2, 1, 7, 2**32 - 1, 4, 5, 2**32 - 1, 0x10, 7, 2**32 - 1, 0x20, 0, 2**32 - 1
)

Step = Callable[[World], object]


class Case:
    """What is done before (``given``) and the change that is tried (``when``)."""

    def __init__(self, when: Step, *given: Step) -> None:
        self.when = when
        self.given = given


def _carried(opcode: int, path: bytes, body: Callable[[World], bytes]) -> Step:
    """Ask for what the extension brings in the form of a GETXATTR."""

    def step(world: World) -> object:
        ino, asked = world.lookup(path), (opcode, body(world))
        with mock.patch.object(native, "carried", lambda: asked):
            return world.do("getxattr", ino, native.CARRIER, ROOT)

    return step


def _allocate(path: bytes, mode: int, offset: int, length: int) -> Step:
    return _carried(43, path, lambda w: struct.pack("=QQQII", 0, offset, length, mode, 0))


def _seek(path: bytes, offset: int, whence: int) -> Step:
    return _carried(46, path, lambda w: struct.pack("=QqII", 0, offset, whence, 0))


def _copy(source: bytes, target: bytes, length: int) -> Step:
    return _carried(
        47, source, lambda w: struct.pack("=7Q", 0, 0, w.lookup(target), 0, 1, length, 0)
    )


def _flags(path: bytes, wanted: int) -> Step:
    """As chattr(1), which leaves alone what says how the filesystem keeps the file."""

    def body(world: World) -> bytes:
        head = struct.pack("=QIIQII", 0, 0, SET_FLAGS, 0, 8, 0)
        with opened(world.lowers[1] + b"/" + path, os.O_RDONLY) as fd:
            return head + struct.pack("=Q", fs_flags(fd) | wanted)

    return _carried(39, path, body)


def _nameless(world: World) -> None:
    with mock.patch.object(native, "asks_tmpfile", lambda: True):
        world.create(b"dir/sub/any", mode=0o640, ctx=USER)


def _pure(world: World) -> None:
    """Let no redirect be written, so that a renamed directory is copied up whole."""
    world.limit_redirects = True  # type: ignore[attr-defined]


CASES = {
    "copy up and write": Case(lambda w: w.write(b"file", b"new")),
    "copy up a large file": Case(lambda w: w.setattr(b"dir/sub/deep", mode=0o600)),
    "copy up a file with attributes": Case(lambda w: w.setxattr(b"attrs", b"user.two", b"2")),
    "open with O_TRUNC": Case(lambda w: w.open(b"file", os.O_WRONLY | os.O_TRUNC)),
    "truncate": Case(lambda w: w.setattr(b"file", size=3)),
    "truncate a hard link": Case(lambda w: w.setattr(b"hard/one", size=3)),
    "extend": Case(lambda w: w.setattr(b"file", size=100)),
    "chmod a directory": Case(lambda w: w.setattr(b"dir/sub", mode=0o700)),
    "chown a link": Case(lambda w: w.setattr(b"symlink", uid=5, gid=5)),
    "chmod a fifo": Case(lambda w: w.setattr(b"fifo", mode=0o640)),
    "chmod a hard link": Case(lambda w: w.setattr(b"hard/one", mode=0o600)),
    "chmod a second hard link": Case(
        lambda w: w.setattr(b"hard/two", mode=0o600), lambda w: w.setattr(b"hard/one", uid=7)
    ),
    "create": Case(lambda w: w.create(b"dir/new", mode=0o640)),
    "create for a user": Case(lambda w: w.create(b"dir/new", ctx=USER)),
    "create over a whiteout": Case(lambda w: w.create(b"file"), lambda w: w.unlink(b"file")),
    "create below a default ACL": Case(
        lambda w: w.create(b"dir/new", ctx=USER),
        lambda w: w.setxattr(b"dir", b"system.posix_acl_default", ACL),
    ),
    "allocate": Case(_allocate(b"file", 0, 0, 4096)),
    "allocate for a copy": Case(_allocate(b"file", 0, 0, 4096), lambda w: w.write(b"file", b"x")),
    "punch a hole": Case(_allocate(b"dir/sub/deep", 3, 0, 4096)),
    "seek a hole": Case(_seek(b"dir/sub/deep", 0, os.SEEK_HOLE)),
    "seek data of a copy": Case(
        _seek(b"dir/sub/deep", 0, os.SEEK_DATA), lambda w: w.setattr(b"dir/sub/deep", mode=0o600)
    ),
    "copy a range": Case(_copy(b"file", b"dir/a", 3)),
    "copy a range to a copy": Case(_copy(b"file", b"dir/a", 3), lambda w: w.write(b"dir/a", b"x")),
    "set a file's flags": Case(_flags(b"file", 0x40)),
    "make a file immutable": Case(_flags(b"file", 0x10)),
    "make a directory append-only": Case(_flags(b"dir/sub", 0x20)),
    "let a file change again": Case(_flags(b"file", 0), _flags(b"file", 0x30)),
    "make a nameless file": Case(_nameless),
    "mkdir": Case(lambda w: w.mkdir(b"dir/sub/new")),
    "mkdir for a user over a removed directory": Case(
        lambda w: w.mkdir(b"empty", ctx=USER), lambda w: w.rmdir(b"empty")
    ),
    "symlink over a whiteout": Case(
        lambda w: w.symlink(b"file", b"x"), lambda w: w.unlink(b"file")
    ),
    "mknod": Case(lambda w: w.mknod(b"dir/fifo", stat.S_IFIFO | 0o600)),
    "link": Case(lambda w: w.link(b"file", b"dir/other")),
    "link over a whiteout": Case(
        lambda w: w.link(b"file", b"symlink"), lambda w: w.unlink(b"symlink")
    ),
    "link a hard link": Case(lambda w: w.link(b"hard/one", b"three")),
    "unlink": Case(lambda w: w.unlink(b"dir/a")),
    "unlink the second": Case(lambda w: w.unlink(b"dir/a"), lambda w: w.unlink(b"file")),
    "unlink an upper file": Case(lambda w: w.unlink(b"new"), lambda w: w.create(b"new")),
    "unlink a copy": Case(lambda w: w.unlink(b"file"), lambda w: w.write(b"file", b"x")),
    "unlink a hard link": Case(lambda w: w.unlink(b"hard/one")),
    "unlink the last hard link": Case(
        lambda w: w.unlink(b"hard/one"), lambda w: w.unlink(b"hard/two")
    ),
    "rmdir": Case(lambda w: w.rmdir(b"empty")),
    "rmdir an upper directory": Case(lambda w: w.rmdir(b"new"), lambda w: w.mkdir(b"new")),
    "rmdir a merged directory": Case(
        lambda w: w.rmdir(b"merged"),
        lambda w: w.unlink(b"merged/one"),
        lambda w: w.unlink(b"merged/two"),
    ),
    "rmdir a moved directory full of whiteouts": Case(
        lambda w: w.rmdir(b"moved"),
        lambda w: w.rename(b"merged", b"moved"),
        lambda w: w.unlink(b"moved/one"),
        lambda w: w.unlink(b"moved/two"),
    ),
    "rename": Case(lambda w: w.rename(b"file", b"dir/other")),
    "rename an upper file": Case(
        lambda w: w.rename(b"new", b"dir/other"), lambda w: w.create(b"new")
    ),
    "rename over a file": Case(lambda w: w.rename(b"file", b"dir/a")),
    "rename over a hard link": Case(lambda w: w.rename(b"file", b"hard/one")),
    "rename a hard link": Case(lambda w: w.rename(b"hard/one", b"elsewhere")),
    "rename over a whiteout": Case(
        lambda w: w.rename(b"file", b"symlink"), lambda w: w.unlink(b"symlink")
    ),
    "rename a directory": Case(lambda w: w.rename(b"dir", b"moved")),
    "rename a directory again": Case(
        lambda w: w.rename(b"moved", b"merged/moved"), lambda w: w.rename(b"dir", b"moved")
    ),
    "rename a directory over an empty one": Case(lambda w: w.rename(b"dir", b"empty")),
    "rename a directory over one full of whiteouts": Case(
        lambda w: w.rename(b"dir", b"merged"),
        lambda w: w.setattr(b"merged", mode=0o700),
        lambda w: w.unlink(b"merged/one"),
        lambda w: w.unlink(b"merged/two"),
    ),
    "rename a directory over a whiteout": Case(
        lambda w: w.rename(b"dir", b"file"), lambda w: w.unlink(b"file")
    ),
    "rename an upper directory to a removed one's name": Case(
        lambda w: w.rename(b"new", b"empty"),
        lambda w: w.rmdir(b"empty"),
        lambda w: w.mkdir(b"new"),
        lambda w: w.create(b"new/inside"),
    ),
    "exchange files": Case(lambda w: w.rename(b"file", b"dir/a", RENAME_EXCHANGE)),
    "exchange directories": Case(lambda w: w.rename(b"dir", b"merged", RENAME_EXCHANGE)),
    "exchange file and directory": Case(lambda w: w.rename(b"file", b"dir", RENAME_EXCHANGE)),
    "rename a directory without redirect": Case(lambda w: w.rename(b"dir", b"moved"), _pure),
    "rename hard links without redirect": Case(lambda w: w.rename(b"hard", b"moved"), _pure),
}
