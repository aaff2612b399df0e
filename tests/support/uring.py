"""io_uring(7) by its system calls: requests as values, submitted together, answered by number.

What programs ask for by it reaches a filesystem from other threads than the program's, without a
system call of that name, and several at a time.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

from tests.support.kernel import AT_FDCWD

READV, WRITEV, FSYNC, READ_FIXED, WRITE_FIXED = 1, 2, 3, 4, 5
SYNC_FILE_RANGE, FALLOCATE, OPENAT, CLOSE, STATX, READ, WRITE = 8, 17, 18, 19, 21, 22, 23
FADVISE, OPENAT2, SPLICE, RENAMEAT, UNLINKAT, MKDIRAT = 24, 28, 30, 35, 36, 37
SYMLINKAT, LINKAT, FSETXATTR, SETXATTR, FGETXATTR, GETXATTR, FTRUNCATE = 38, 39, 41, 42, 43, 44, 55
FIXED_FILE, LINKED, ASYNC = 1, 4, 16  # flags of a request

_SETUP, _ENTER, _REGISTER = 425, 426, 427
_SQ_RING, _SQES = 0, 0x10000000  # offsets for mmap(2)
_GET_EVENTS, _REGISTER_BUFFERS, _REGISTER_FILES, _UNREGISTER_FILES = 1, 0, 2, 3
_ENTRIES = 64
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@dataclass(slots=True)
class Request:
    """One request, its fields as in linux/io_uring.h. *address* and *second* may be bytes.

    *slot* is ``file_index`` (from 1) or the descriptor that is spliced from.
    """

    opcode: int
    fd: int = AT_FDCWD
    offset: int = 0
    address: object = 0
    length: int = 0
    how: int = 0
    flags: int = 0
    second: object = None  # instead of an offset: another address
    third: int = 0
    buffer: int = 0
    slot: int = 0
    kept: list[object] = field(default_factory=list)

    def packed(self, number: int) -> bytes:
        """Return the submission queue's entry; memory that it speaks of stays with this."""
        offset = self.offset if self.second is None else self._at(self.second)
        words = (self.opcode, self.flags, 0, self.fd, offset % (1 << 64), self._at(self.address))
        more = (self.length, self.how, number, self.buffer, 0, self.slot, self.third, 0)
        return struct.pack("=BBHiQQIIQHHiQQ", *words, *more)

    def _at(self, value: object) -> int:
        if isinstance(value, int):
            return value
        if isinstance(value, bytes):
            value = ctypes.create_string_buffer(value)
        self.kept.append(value)
        return ctypes.addressof(value)  # type: ignore[arg-type]


class Ring:
    """An instance with room for 64 requests."""

    def __init__(self) -> None:
        params = ctypes.create_string_buffer(120)
        self._fd = _check(_libc.syscall(_SETUP, _ENTRIES, params))
        found = struct.unpack("=30I", params.raw)
        self._sq, self._cq = found[10:20], found[20:30]
        size = max(self._sq[6] + found[0] * 4, self._cq[5] + found[1] * 16)
        self._ring = mmap.mmap(self._fd, size, offset=_SQ_RING)
        self._entries = mmap.mmap(self._fd, found[0] * 64, offset=_SQES)
        self._count = found[1]

    def __enter__(self) -> Ring:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType
    ) -> None:
        self._ring.close()
        self._entries.close()
        os.close(self._fd)

    def register_files(self, fds: Sequence[int]) -> None:
        """Let requests with ``FIXED_FILE`` name *fds* by their places; -1 leaves one free."""
        table = (ctypes.c_int * len(fds))(*fds)
        _check(_libc.syscall(_REGISTER, self._fd, _REGISTER_FILES, table, len(fds)))

    def unregister_files(self) -> None:
        """Close them now; the end of a ring does it later, and a mount is in use until then."""
        _check(_libc.syscall(_REGISTER, self._fd, _UNREGISTER_FILES, None, 0))

    def register_buffer(self, buffer: ctypes.Array) -> None:
        vector = struct.pack("=QQ", ctypes.addressof(buffer), ctypes.sizeof(buffer))
        _check(_libc.syscall(_REGISTER, self._fd, _REGISTER_BUFFERS, vector, 1))

    def ask(self, *requests: Request) -> list[int | str]:
        """Submit *requests* together; return the answers: a number, or an errno's name."""
        tail = self._word(self._sq[1])
        mask = self._word(self._sq[2])
        for number, request in enumerate(requests):
            place = tail + number & mask
            self._entries[place * 64 : place * 64 + 64] = request.packed(number)
            struct.pack_into("=I", self._ring, self._sq[6] + place * 4, place)
        struct.pack_into("=I", self._ring, self._sq[1], tail + len(requests))
        count = len(requests)
        asked = (_ENTER, self._fd, count, count, _GET_EVENTS, None, ctypes.c_size_t(0))
        assert _check(_libc.syscall(*asked)) == count
        return self._answers(count)

    def _answers(self, count: int) -> list[int | str]:
        found: dict[int, int] = {}
        head, tail = self._word(self._cq[0]), self._word(self._cq[1])
        while head != tail:
            at = self._cq[5] + (head % self._count) * 16
            number, result = struct.unpack_from("=Qi", self._ring, at)
            found[number] = result
            head += 1
        struct.pack_into("=I", self._ring, self._cq[0], head)
        return [_shown(found[number]) for number in range(count)]

    def _word(self, at: int) -> int:
        return struct.unpack_from("=I", self._ring, at)[0]


def _shown(result: int) -> int | str:
    return result if result >= 0 else errno.errorcode[-result]
