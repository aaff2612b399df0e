"""Files that a mark protects: whoever serves them refuses, and a copy keeps the mark."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.worlds import ROOT, World
from tests.unit.fuse.conftest import Build
from unionfs.fuse import native
from unionfs.ondisk import protattr
from unionfs.syscalls import flags
from unionfs.syscalls.flags import APPEND, IMMUTABLE
from unionfs.upper import flags as upper_flags

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("inline")]
MARK = b"trusted.overlay.protattr"
FALLOCATE, COPY, IOCTL = 43, 47, 39

CHANGES: dict[str, Callable[[World], object]] = {
    "chmod": lambda world: world.setattr(b"d/file", mode=0o600),
    "chown": lambda world: world.setattr(b"d/file", uid=1),
    "times": lambda world: world.setattr(b"d/file", mtime_ns=1),
    "truncate": lambda world: world.setattr(b"d/file", size=1),
    "write": lambda world: world.write(b"d/file", b"new"),
    "open to truncate": lambda world: world.open(b"d/file", os.O_WRONLY | os.O_TRUNC),
    "setxattr": lambda world: world.setxattr(b"d/file", b"user.a", b"v"),
    "removexattr": lambda world: world.do("removexattr", world.lookup(b"d/file"), b"user.a", ROOT),
    "link": lambda world: world.link(b"d/file", b"d/new"),
    "rename": lambda world: world.rename(b"d/file", b"d/new"),
    "be replaced": lambda world: world.rename(b"d/other", b"d/file"),
    "exchange": lambda world: world.rename(b"d/other", b"d/file", 2),
    "unlink": lambda world: world.unlink(b"d/file"),
}
NAMES: dict[str, Callable[[World], object]] = {
    "create": lambda world: world.create(b"d/new"),
    "mkdir": lambda world: world.mkdir(b"d/new"),
    "mknod": lambda world: world.mknod(b"d/new", 0o10644),
    "symlink": lambda world: world.symlink(b"d/new", b"t"),
    "link": lambda world: world.link(b"d/file", b"d/new"),
    "rename": lambda world: world.rename(b"top", b"d/new"),
}
LOSSES: dict[str, Callable[[World], object]] = {
    "unlink": lambda world: world.unlink(b"d/file"),
    "rename": lambda world: world.rename(b"d/file", b"new"),
    "rmdir": lambda world: world.do("rmdir", world.lookup(b""), b"d", ROOT),
    "chmod": lambda world: world.setattr(b"d", mode=0o700),
}


@pytest.fixture
def files(lower: Path, build: Build) -> World:
    (lower / "d").mkdir()
    for name in ("d/file", "d/other", "top"):
        (lower / name).write_bytes(b"content")
    return build()


def _refused(world: World, change: Callable[[World], object]) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EPERM)) as caught:
        change(world)
    assert caught.value.errno == errno.EPERM


def _marked(world: World, path: bytes, value: bytes) -> None:
    """Bring *path* into the upper and mark it there, before the mount looks at it."""
    world.setattr(path, mode=0o700)
    os.setxattr(world.upperdir + b"/" + path, MARK, value)
    world.node(path).protection = -1


@pytest.mark.parametrize("mark", [b"i", b"a", b"ai"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_protected_file_is_not_changed(
    files: World, change: Callable[[World], object], mark: bytes
) -> None:
    _marked(files, b"d/file", mark)
    before = files.dump()
    _refused(files, change)
    assert files.dump() == before


@pytest.mark.parametrize("change", NAMES.values(), ids=NAMES)
def test_an_immutable_directory_gets_no_names(
    files: World, change: Callable[[World], object]
) -> None:
    _marked(files, b"d", b"i")
    before = files.dump()
    _refused(files, change)
    assert files.dump() == before


@pytest.mark.parametrize("change", NAMES.values(), ids=NAMES)
def test_a_directory_that_only_grows_gets_names(
    files: World, change: Callable[[World], object]
) -> None:
    _marked(files, b"d", b"a")
    change(files)
    assert b"new" in files.names(b"d")


@pytest.mark.parametrize("mark", [b"i", b"a"])
@pytest.mark.parametrize("change", LOSSES.values(), ids=LOSSES)
def test_a_protected_directory_loses_no_names(
    files: World, change: Callable[[World], object], mark: bytes
) -> None:
    _marked(files, b"d", mark)
    before = files.dump()
    _refused(files, change)
    assert files.dump() == before


def test_what_only_grows_can_be_appended_to(files: World) -> None:
    _marked(files, b"d/file", b"a")
    handle = files.open(b"d/file", os.O_WRONLY | os.O_APPEND)
    assert files.do("write", handle, 7, b" and more") == 9
    _refused(files, lambda world: world.do("write", handle, 1, b"x"))
    files.do("release", handle)
    assert files.read(b"d/file") == b"content and more"


def test_a_mark_with_letters_that_nobody_knows_is_none(files: World) -> None:
    _marked(files, b"d/file", b"ix")
    files.write(b"d/file", b"new")
    assert [protattr.decode(value) for value in (None, b"", b"a", b"i", b"ai", b"z")] == [
        0,
        0,
        APPEND,
        IMMUTABLE,
        APPEND | IMMUTABLE,
        0,
    ]
    assert protattr.encode(IMMUTABLE | APPEND) == b"ai"
    assert protattr.encode(0) == b""


@pytest.fixture
def protecting(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, int]:
    """Names whose lower inode is protected, as no filesystem of these tests can have it."""
    found: dict[bytes, int] = {}
    monkeypatch.setattr(
        flags, "protecting", lambda fd, name=b"": found.get(name, found.get(_name(fd), 0))
    )
    return found


def _name(fd: int) -> bytes:
    return os.path.basename(os.readlink(b"/proc/self/fd/%d" % fd))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_protected_lower_file_is_not_even_copied(
    files: World, protecting: dict[bytes, int], change: Callable[[World], object]
) -> None:
    protecting[b"file"] = IMMUTABLE
    _refused(files, change)
    assert os.listdir(files.upperdir) == []


def test_a_copy_of_what_is_protected_has_the_mark(
    files: World, protecting: dict[bytes, int]
) -> None:
    protecting[b"file"], protecting[b"d"] = APPEND, IMMUTABLE
    handle = files.open(b"d/file", os.O_WRONLY | os.O_APPEND)
    files.do("write", handle, 7, b"!")
    files.do("release", handle)
    protecting.clear()
    assert os.getxattr(files.upperdir + b"/d/file", MARK) == b"a"
    assert os.getxattr(files.upperdir + b"/d", MARK) == b"i"
    _refused(files, lambda world: world.setattr(b"d/file", mode=0o600))
    _refused(files, lambda world: world.create(b"d/new"))


def _ask(
    world: World, monkeypatch: pytest.MonkeyPatch, path: bytes, opcode: int, body: bytes
) -> bytes:
    ino = world.lookup(path)
    with monkeypatch.context() as patch:
        patch.setattr(native, "carried", lambda: (opcode, body))
        return bytes(world.do("getxattr", ino, native.CARRIER, ROOT))


@pytest.mark.parametrize(("mark", "mode"), [(b"i", 0), (b"a", 3)])
def test_ranges_of_what_is_protected(
    files: World, monkeypatch: pytest.MonkeyPatch, mark: bytes, mode: int
) -> None:
    _marked(files, b"d/file", mark)
    allocate = struct.pack("=QQQII", 0, 0, 4096, mode, 0)
    _refused(files, lambda world: _ask(world, monkeypatch, b"d/file", FALLOCATE, allocate))
    number = files.lookup(b"d/file")
    over = struct.pack("=QQQQQQQ", 0, 0, number, 0, 0, 3, 0)
    _refused(files, lambda world: _ask(world, monkeypatch, b"top", COPY, over))
    assert files.read(b"d/file") == b"content"


def test_a_change_of_flags_that_fails_changes_nothing(
    files: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inode's flags come first, and are taken back where the mark cannot be made."""
    files.setattr(b"d/file", mode=0o600)
    told: list[bytes] = []
    monkeypatch.setattr(flags, "ask", lambda fd, command: struct.pack("=I28x", 0x80000))
    monkeypatch.setattr(flags, "tell", lambda fd, command, wanted: told.append(wanted[:4]))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(upper_flags.xattr, "set_", full)
    body = struct.pack("=QIIQIII", 0, 0, flags.SET_FLAGS, 0, 4, 0, 0x80000 | 0x40 | 0x10)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        _ask(files, monkeypatch, b"d/file", IOCTL, body)
    assert [struct.unpack("=I", each)[0] for each in told] == [0x80040, 0x80000]
    files.setattr(b"d/file", mode=0o640)
