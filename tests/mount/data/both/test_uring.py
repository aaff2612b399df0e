"""io_uring(7): names, content and files that are only open in the ring, compared or by a model."""

from __future__ import annotations

import ctypes
import os
import random
import struct
from typing import Any

import pytest

from tests.support.examples import FULL
from tests.support.files import opened, read
from tests.support.stacks import Dir, Entry, File, Link, build_layer, build_stack
from tests.support.uring import (
    ASYNC,
    CLOSE,
    FIXED_FILE,
    FSYNC,
    LINKAT,
    LINKED,
    MKDIRAT,
    OPENAT,
    OPENAT2,
    READ,
    READ_FIXED,
    RENAMEAT,
    STATX,
    UNLINKAT,
    WRITE,
    WRITE_FIXED,
    Request,
    Ring,
)

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

ROUNDS = 200 if FULL else 10
_CELL, _CELLS = 512, 60
_FILES: tuple[Entry, ...] = (
    File(b"f", b"data", 20_000),
    File(b"g", b"gggg", 20_000),
    Link(b"h", b"g"),
    File(b"d/x", b"x", 100),
)


@pytest.fixture
def roots(scratch, union) -> tuple[bytes, bytes]:
    """A plain directory and a mount that show the same."""
    build_layer(scratch + b"/plain", _FILES)
    return scratch + b"/plain", union(build_stack(scratch + b"/s", [_FILES, [Dir(b"d")]])).root


@pytest.mark.parametrize("flags", [0, ASYNC])
def test_names(roots, flags):
    def act(root: bytes) -> list[Any]:
        with opened(root, os.O_RDONLY) as at, Ring() as ring:

            def ask(opcode: int, name: bytes, **how: Any) -> Any:
                return ring.ask(Request(opcode, at, address=name, flags=flags, **how))[0]

            stat = ctypes.create_string_buffer(256)
            fd = ask(OPENAT2, b"made", length=24, second=struct.pack("=QQQ", 0o102, 0o640, 0))
            seen = [
                ask(MKDIRAT, b"new", length=0o750),
                ask(RENAMEAT, b"d", length=at, second=b"new/d"),
                ask(RENAMEAT, b"f", length=at, second=b"new/d", how=1),
                ask(RENAMEAT, b"f", length=at, second=b"new", how=2),
                ask(LINKAT, b"g", length=at, second=b"f/i"),
                ask(UNLINKAT, b"h"),
                ask(UNLINKAT, b"f/d", how=0x200),
                ask(UNLINKAT, b"f/d/x"),
                ask(UNLINKAT, b"f/d", how=0x200),
                ask(STATX, b"g", second=stat, length=0x7FF),
                struct.unpack_from("=I8xH10xQ", stat.raw, 16),
                *ring.ask(
                    Request(WRITE, fd, 3, b"hello", 5, flags=LINKED),
                    Request(FSYNC, fd, flags=LINKED),
                    Request(CLOSE, fd),
                ),
            ]
        return [*seen, sorted(os.listdir(root)), sorted(os.listdir(root + b"/f"))]

    plain, root = roots
    assert act(root) == act(plain)


def test_files_of_the_ring(roots):
    """Registered before the copy-up; and opened in the ring, written and closed in one chain."""

    def act(root: bytes) -> list[Any]:
        buffer = ctypes.create_string_buffer(b"N" * 8192, 8192)
        fds = [os.open(root + b"/" + name, os.O_RDWR) for name in (b"f", b"g", b"h")]
        with Ring() as ring:
            ring.register_files([*fds, -1])
            ring.register_buffer(buffer)
            for fd in fds:
                os.close(fd)
            chain = FIXED_FILE | LINKED
            name = root + b"/d/x"
            seen: list[Any] = ring.ask(
                Request(OPENAT, address=name, how=os.O_RDWR, slot=4, flags=LINKED),
                Request(WRITE, 3, 10, b"chain", 5, flags=chain),
                Request(FSYNC, 3, flags=chain),
                Request(CLOSE, 0, slot=4),
            )
            for number in range(3):
                write = Request(WRITE_FIXED, number, 100, buffer, 3000, flags=FIXED_FILE)
                seen += ring.ask(write)
            os.unlink(root + b"/f")
            for number in range(3):
                seen += ring.ask(Request(READ_FIXED, number, 0, buffer, 8192, flags=FIXED_FILE))
                seen.append(buffer.raw)
            ring.unregister_files()
        return [*seen, read(name), read(root + b"/g"), read(root + b"/h")]

    plain, root = roots
    assert act(root) == act(plain)


@pytest.mark.parametrize("name", [b"f", b"g"])
def test_many_writes_at_a_time(roots, name):
    """Over the copy-up, each in its place, some by the ring's own threads; against a model."""
    path, rng = roots[1] + b"/" + name, random.Random(5)
    model = bytearray(read(path).ljust(_CELL * _CELLS, b"\0"))
    with opened(path, os.O_RDWR) as fd, Ring() as ring:
        for _ in range(ROUNDS):
            asked = []
            for cell in (_CELLS - 1, *rng.sample(range(_CELLS - 1), 40)):
                data, at = bytes([rng.randrange(256)]) * _CELL, cell * _CELL
                model[at : at + _CELL] = data
                asked.append(Request(WRITE, fd, at, data, _CELL, flags=rng.choice((0, ASYNC))))
            assert ring.ask(*asked) == [_CELL] * len(asked)
            buffer = ctypes.create_string_buffer(len(model))
            assert ring.ask(Request(READ, fd, 0, buffer, len(model))) == [len(model)]
            assert buffer.raw == model == read(path)
