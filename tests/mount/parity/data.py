"""fallocate, lseek, copy_file_range, splice, sendfile, truncate: what files hold, and holes."""

import os

from tests.support.callers import BARE, EVERYBODY, OTHER, OWNER, ROOT
from tests.support.calls import case, through
from tests.support.rawcalls import KEEP_SIZE, PUNCH_HOLE, ZERO, truncate
from tests.support.rawcalls import fallocate as _fallocate
from tests.support.things import Thing, beside, both, nothing, one

_BLOCK = 4096
_SPARSE = one("file", data=b"d" * 3 * _BLOCK, hole=4 * _BLOCK)
_DENSE = one("file", data=b"d" * 3 * _BLOCK)
_SET_ID = one("file", mode=0o6777)
_OUT = Thing("file", "upper", "y", data=b"old content")
_NEEDS = {0: "fallocate", PUNCH_HOLE | KEEP_SIZE: "punch hole"}


def fallocate(name: str, mode: int, offset: int, length: int) -> tuple[int, int]:
    """Return size and blocks afterwards (in 4 KiB)."""
    fd = os.open(name, os.O_RDWR)
    _fallocate(fd, mode, offset, length)
    st = os.fstat(fd)
    return st.st_size, st.st_blocks // 8


def seek(name: str, offset: int, whence: int) -> int:
    return os.lseek(os.open(name, os.O_RDONLY), offset, whence)


def seek_dirty(name: str, whence: int) -> int:
    """Seek in what was just written, beyond a hole."""
    fd = os.open(name, os.O_RDWR)
    os.pwrite(fd, b"n" * _BLOCK, 16 * _BLOCK)
    return os.lseek(fd, 8 * _BLOCK, whence)


def copy_range(source: str, target: str, count: int, at: int, to: int) -> int:
    first, second = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY)
    return os.copy_file_range(first, second, count, at, to)


def copy_within(name: str, count: int, at: int, to: int) -> int:
    fd = os.open(name, os.O_RDWR)
    return os.copy_file_range(fd, fd, count, at, to)


def sendfile(source: str, target: str, count: int) -> int:
    return os.sendfile(os.open(target, os.O_WRONLY), os.open(source, os.O_RDONLY), 0, count)


def splice(source: str, target: str, count: int) -> int:
    """From a file into a pipe and from there into another."""
    read, write = os.pipe()
    got = os.splice(os.open(source, os.O_RDONLY), write, count)
    return os.splice(read, os.open(target, os.O_WRONLY), got) if got else 0


def grow(name: str, size: int) -> bytes:
    """Truncate to *size* through a descriptor, and read what is at the end."""
    fd = os.open(name, os.O_RDWR)
    os.ftruncate(fd, size)
    return os.pread(fd, 8, max(size - 8, 0))


def shrink_and_grow(name: str) -> bytes:
    """What was cut off comes back as zeros."""
    os.truncate(name, 3)
    os.truncate(name, 20)
    with open(name, "rb") as file:
        return file.read()


CASES = [
    *(
        case(fallocate, "x", mode, offset, length, on=_SPARSE, needs=_NEEDS.get(mode, "fallocate"))
        for mode in (
            0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, PUNCH_HOLE, ZERO, ZERO | KEEP_SIZE, 0x400,
        )
        for offset, length in (
            (0, _BLOCK), (4 * _BLOCK, _BLOCK), (5 * _BLOCK, 20 * _BLOCK), (100, 50), (0, 0),
            (-1, _BLOCK), (100 * _BLOCK, _BLOCK),
        )
    ),
    case(through(_fallocate), "x", 0, 0, 4096, needs="fallocate", on=one("file dir fifo")),
    case(fallocate, "x", 0, 0, 99, on=_SET_ID, by=EVERYBODY, needs="fallocate"),
    case(fallocate, "x", PUNCH_HOLE | KEEP_SIZE, 0, 5, on=_SET_ID, by=(OWNER, OTHER),
         needs="punch hole"),
    *(
        case(seek, "x", offset, whence, on=[*_SPARSE, *_DENSE, *one("file")], needs="seek data")
        for whence in (os.SEEK_DATA, os.SEEK_HOLE)
        for offset in (0, 1, 4 * _BLOCK, 5 * _BLOCK, 7 * _BLOCK, 9 * _BLOCK, -1)
    ),
    *(
        case(seek, "x", offset, whence, on=one("file dir"))
        for whence, offset in (
            (os.SEEK_SET, 5), (os.SEEK_SET, -1), (os.SEEK_CUR, 7), (99, 0),
        )
    ),
    *(case(seek, "x", offset, os.SEEK_END, on=one("file")) for offset in (0, -3, -11, 5)),
    case(seek_dirty, "x", os.SEEK_DATA, on=_SPARSE, needs="seek data"),
    case(seek_dirty, "x", os.SEEK_HOLE, on=_SPARSE, needs="seek data"),
    *(
        case(call, "x", "y", *args, on=beside([*_SPARSE, *_SET_ID], _OUT), by=(ROOT, OWNER))
        for call, args in (
            (copy_range, (1 << 20, 0, 0)), (copy_range, (5, 2, 100)), (copy_range, (0, 0, 0)),
            (sendfile, (1 << 20,)), (sendfile, (7,)), (splice, (4096,)),
        )
    ),
    *(
        case(call, "x", "y", *args, on=both([*one("file", "upper"), *_SPARSE], _SET_ID),
             by=(ROOT, OTHER))
        for call, args in ((copy_range, (5000, 0, 0)), (sendfile, (99,)), (splice, (99,)))
    ),
    case(copy_within, "x", _BLOCK, 0, 8 * _BLOCK, on=_DENSE),
    case(copy_within, "x", _BLOCK, 0, 100, on=_DENSE),
    case(copy_range, "x", "y", 10, 0, 0, on=beside(one("dir"), _OUT)),
    *(
        case(truncate, "x", size, on=one(), by=(ROOT,))
        for size in (0, 3, 10, 100, -1, 1 << 62)
    ),
    case(truncate, "x", 5, by=EVERYBODY, on=one("file dir")),
    case(truncate, "x", 5, on=_SET_ID, by=EVERYBODY),
    case(truncate, "x", 10, on=_SET_ID, by=(OWNER, OTHER)),
    case(truncate, "x", 5, on=nothing()),
    case(truncate, "x/y", 5, on=one("file dir")),
    case(truncate, "n" * 256, 5, on=nothing("absent")),
    case(truncate, "x", 5, on=beside(one("symlink"), Thing("file", "lower", "nowhere"))),
    case(truncate, "x2", 5, on=one("file", "linked linked-copied")),
    *(case(through(os.ftruncate, flags), "x", size, on=one("file"), by=(ROOT, OWNER, BARE))
      for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDONLY) for size in (0, 10, 99)),
    case(through(os.ftruncate, os.O_WRONLY), "x", 4, on=_SET_ID, by=EVERYBODY),
    *(case(grow, "x", size, on=one("file")) for size in (0, 5, 5000, 3 * _BLOCK)),
    case(shrink_and_grow, "x", on=one("file"), by=(ROOT, OWNER)),
]  # fmt: skip
