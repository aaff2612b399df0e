"""Programs run from the mount get the privileges that they get from a local filesystem.

Set-id bits and file capabilities, by every way to execute a file, before and after its copy-up, and
after each change that takes them away or leaves them. The program is cat(1), which says what it is.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import stat
import struct
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.extension import answered
from tests.support.files import as_user, opened, read, write
from tests.support.modes import MODES
from tests.support.rawcalls import AT_EMPTY_PATH
from tests.support.stacks import Dir, Entry, File, build_layer, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

_EXECVEAT = 322
_OWNER, _GROUP, _USER = 1005, 1006, 1002
_TOLD = (b"Uid:", b"Gid:", b"CapPrm:", b"CapEff:")
_libc = ctypes.CDLL(None, use_errno=True)


def _capability(permitted: int = 1 << 10, *, root: int | None = None) -> tuple[str, bytes]:
    """Return the attribute of an effective capability; with *root* of that user's namespace."""
    version, last = (0x02000001, b"") if root is None else (0x03000001, struct.pack("<I", root))
    return "security.capability", struct.pack("<IIIII", version, permitted, 0, 0, 0) + last


def _files() -> tuple[Entry, ...]:
    with open("/bin/cat", "rb") as file:
        program = file.read()
    script = b"#!/bin/cat /proc/self/status\n"

    def one(name: bytes, mode: int, *xattrs: tuple[str, bytes], data: bytes = program) -> File:
        return File(name, data, len(data), mode, _OWNER, _GROUP, xattrs=xattrs)

    return (
        Dir(b".", 0o755),
        one(b"plain", 0o755),
        one(b"suid", 0o4755),
        one(b"sgid", 0o2755),
        one(b"locking", 0o2745),
        one(b"everybody's", 0o6777),
        one(b"able", 0o777, _capability()),
        one(b"able elsewhere", 0o755, _capability(root=1000)),
        one(b"all", 0o6755, _capability(1 << 13)),
        one(b"closed", 0o644),
        one(b"unreadable", 0o711, _capability()),
        one(b"script", 0o4755, data=script),
    )


_RUN_BY_ALL = (b"suid", b"able", b"closed", b"unreadable", b"script")
NAMES = [entry.path for entry in _files() if isinstance(entry, File)]


def _execv(path: bytes) -> None:
    os.execv(path, [b"cat", b"/proc/self/status"])


def _execveat(fd: int, path: bytes, flags: int) -> None:
    words = (ctypes.c_char_p * 3)(b"cat", b"/proc/self/status", None)
    _libc.syscall(_EXECVEAT, fd, path, words, (ctypes.c_char_p * 1)(None), flags)
    raise OSError(ctypes.get_errno(), "execveat")


def _by_descriptor(how: int) -> Callable[[bytes], None]:
    def execute(path: bytes) -> None:
        fd = os.open(path, how)
        os.set_inheritable(fd, True)
        _execveat(fd, b"", AT_EMPTY_PATH)

    return execute


def _by_closing_descriptor(path: bytes) -> None:
    """A script cannot be run so: its interpreter would find nothing."""
    _execveat(os.open(path, os.O_RDONLY | os.O_CLOEXEC), b"", AT_EMPTY_PATH)


def _by_directory(path: bytes) -> None:
    folder, name = os.path.split(path)
    _execveat(os.open(folder, os.O_RDONLY | os.O_DIRECTORY), name, 0)


def _by_proc(path: bytes) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.set_inheritable(fd, True)
    _execv(b"/proc/self/fd/%d" % fd)


WAYS = {
    "execv": _execv,
    "fexecve": _by_descriptor(os.O_RDONLY),
    "fexecve O_PATH": _by_descriptor(os.O_PATH),
    "fexecve O_CLOEXEC": _by_closing_descriptor,
    "execveat": _by_directory,
    "/proc": _by_proc,
}


def _run(path: bytes, way: str, user: int) -> tuple[int, list[bytes]]:
    """Return the status or errno of the program at *path*, and what it says of its privileges."""
    read, write = os.pipe()

    def execute() -> None:
        os.dup2(write, 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        WAYS[way](path)

    status = as_user(execute, uid=user, gid=user)
    os.close(write)
    with open(read, "rb") as file:
        lines = file.read().splitlines()
    return status, [line for line in lines if line.startswith(_TOLD)]


def _touch(path: bytes) -> None:
    os.utime(path)


def _open_to_write(path: bytes) -> None:
    os.close(os.open(path, os.O_RDWR))


def _write(path: bytes) -> None:
    with opened(path, os.O_WRONLY) as fd:
        os.pwrite(fd, b"\x7f#"[path.endswith(b"script")].to_bytes(), 0)


def _extend(path: bytes) -> None:
    os.truncate(path, os.stat(path).st_size + 1)


def _map(path: bytes) -> None:
    """Write through a mapping, which takes no privileges away."""
    with opened(path, os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
        mapped[20:21] = mapped[20:21]
        mapped.flush()


def _give(path: bytes) -> None:
    os.chown(path, _USER, -1)


def _give_to_a_group(path: bytes) -> None:
    os.chown(path, -1, _USER)


def _chmod(path: bytes) -> None:
    os.chmod(path, os.stat(path).st_mode & 0o7777 | 0o1)


def _able(path: bytes) -> None:
    os.setxattr(path, *_capability(1 << 13))


def _able_no_more(path: bytes) -> None:
    os.removexattr(path, "security.capability")


def _rename(path: bytes) -> None:
    os.rename(path, path + b"~")
    os.rename(path + b"~", path)


CHANGES = [
    _touch, _open_to_write, _write, _extend, _give, _give_to_a_group, _chmod, _able,
    _able_no_more, _rename,
]  # fmt: skip


@pytest.fixture(scope="module", params=MODES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def both(kind, monkeypatch, scratch, union) -> Callable[[Callable[[bytes], Any]], None]:
    """Call a function with a plain directory and with the mount; its answers must be the same."""
    if kind == "pure":
        monkeypatch.setenv("UNIONFS_PURE", "1")
    build_layer(scratch + b"/plain", _files())
    root = union(build_stack(scratch + b"/s", [_files(), [Dir(b"other")]])).root

    def compare(function: Callable[[bytes], dict[Any, Any]]) -> None:
        expected, found = function(scratch + b"/plain"), function(root)
        wrong = {
            key: (expected[key], found[key]) for key in expected if expected[key] != found[key]
        }
        assert wrong == {}

    return compare


@pytest.mark.parametrize("change", [None, _touch, _open_to_write])
def test_by_every_way(both, change):
    def act(root: bytes) -> dict[Any, Any]:
        for name in NAMES if change is not None else ():
            change(root + b"/" + name)
        return {
            (name, way, user): _run(root + b"/" + name, way, user)
            for name in _RUN_BY_ALL
            for way in WAYS
            for user in (_USER, *((0,) if name == b"able" else ()))
        }

    both(act)


@pytest.mark.parametrize("user", [0, _OWNER])
@pytest.mark.parametrize("change", CHANGES)
def test_after_a_change(both, kind, change, user):
    left_out = {b"all"}  # see test_a_write_takes_all_privileges_together of parity
    if kind == "pure":
        left_out.add(b"locking")  # a truncation leaves the bit there, since the kernel does

    def attribute(path: bytes) -> bytes | int | None:
        try:
            return os.getxattr(path, "security.capability")
        except OSError as error:
            return error.errno

    def act(root: bytes) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for name in NAMES:
            if name in left_out:
                continue
            path = root + b"/" + name
            done = as_user(lambda: change(path), uid=user, gid=user)  # noqa: B023
            st = os.stat(path)
            found[name] = done, oct(st.st_mode), st.st_uid, st.st_gid, attribute(path)
            if name in (b"suid", b"able", b"everybody's"):
                found[name, "run"] = _run(path, "execv", _USER)
        return found

    both(act)


@pytest.mark.needs_extension
def test_through_a_mapping(scratch, union):
    """What a mapping writes takes no privileges, nor those that were given before it is written."""
    build_layer(scratch + b"/plain", _files())
    root = union(build_stack(scratch + b"/s", [_files(), [Dir(b"other")]])).root

    def act(top: bytes) -> list[Any]:
        for name in (b"suid", b"able", b"all"):
            _map(top + b"/" + name)
            _map(top + b"/" + name)  # once while it is copied up, once in the upper
        with opened(top + b"/plain", os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
            mapped[20:21] = mapped[20:21]
            os.setxattr(top + b"/plain", *_capability())
            os.chmod(top + b"/plain", 0o6755)
            mapped.flush()
        told = [_run(top + b"/" + name, "execv", _USER) for name in NAMES]
        return [told, [oct(os.stat(top + b"/" + name).st_mode) for name in NAMES]]

    assert act(root) == act(scratch + b"/plain")


@pytest.mark.needs_extension
def test_a_strangers_writes_need_python_only_for_set_id_bits(scratch, union):
    """Of who may not keep set-id bits (CAP_FSETID) the kernel says so with every write."""
    root = union(build_stack(scratch + b"/s", [[Dir(b"d")]])).root
    path, count = root + b"/d/file", 50
    write(path, b"")
    os.chown(path, 1000, 1000)

    def write_all() -> None:
        with opened(path, os.O_WRONLY) as fd:
            for number in range(count):
                assert os.pwrite(fd, b"%03d" % number, 3 * number) == 3

    before = answered(root)
    assert as_user(write_all) == 0
    assert answered(root) >= before + count - 1  # Python opens the file for the first
    assert read(path) == b"".join(b"%03d" % number for number in range(count))
    for mode, left in ((0o6755, 0o755), (0o2755, 0o755), (0o4600, 0o600), (0o755, 0o755)):
        os.chmod(path, mode)
        assert as_user(write_all) == 0
        assert stat.S_IMODE(os.stat(path).st_mode) == left, oct(mode)
