"""One that traces a mount: what is kept for him until he asks, and the file in which he finds it.

The file is in memory. Who may look at this process's descriptors opens it there, which is cheaper
than answers through the kernel, and what is left in it at the end he can read when the mount is
gone and nobody answers any more.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Sequence

from unionfs.inspect.records import END, FORM, MEMORY, REPLY, REPLY_MORE_AT, REST_AT

_KEPT = 8 << 20  # bytes for one reader: some 70,000 requests; his file has as much again
_REPLY = 65536  # XATTR_SIZE_MAX
_PARTS = 1024  # that are written at once; IOV_MAX


class Reader:
    """A process *pid* that calls itself *name*, when it asked last, and what it was told.

    ``pieces`` are ``size`` bytes, with ``count`` events; ``lost`` are those that it will not get.
    ``number`` is that of its latest answer.
    """

    __slots__ = ("_fd", "asked", "count", "lost", "number", "pid", "pieces", "reply", "size")

    def __init__(self, name: bytes, pid: int, number: int, lost: int, fd: int | None) -> None:
        """*fd* is the file of one who comes back; None makes it, if there is room for that."""
        self.pid = pid
        self.asked = time.monotonic()
        self.number = number
        self.reply = b""
        self.pieces: deque[tuple[bytes, int]] = deque()
        self.size = self.count = 0
        self.lost = lost
        self._fd = _memory_file(name) if fd is None else fd
        if fd is not None and fd >= 0:
            os.pwrite(fd, bytes(REPLY.size), REST_AT)  # what came last was not the last

    def keep(self, piece: bytes, count: int) -> None:
        """Keep *piece*, with *count* events, or give it up where too much is kept."""
        if self.size + len(piece) > _KEPT:
            self.lost += count
            return
        self.pieces.append((piece, count))
        self.size += len(piece)
        self.count += count

    def begin(self) -> None:
        """Make the first answer, which says where the file is."""
        self.reply = REPLY.pack(FORM, 0, max(self._fd, 0), os.getpid(), self.lost)
        self.lost = 0

    def answer(self, *, in_memory: bool) -> None:
        """Make the next answer; *in_memory*: in the file. Raises OSError where that cannot be."""
        if in_memory:
            self.reply = self._write(0)
            return
        parts = []
        room = _REPLY - REPLY.size
        while self.pieces and len(self.pieces[0][0]) <= room:
            piece, count = self.pieces.popleft()
            parts.append(piece)
            room -= len(piece)
            self.size -= len(piece)
            self.count -= count
        header = REPLY.pack(FORM, bool(self.pieces), 0, 0, self.lost)
        self.lost = 0
        self.reply = header + b"".join(parts)

    def leave(self) -> tuple[int, int]:
        """Put everything in the file, as the last that will come, if there is a file and room.

        Returns the file and how many events are lost if he comes back, and does not read it.
        """
        lost = self.lost + self.count
        try:
            self._write(REST_AT)
            os.pwrite(self._fd, bytes((END,)), REST_AT + REPLY_MORE_AT)
        except OSError:
            pass  # he finds no end, and knows
        return self._fd, lost

    def close(self) -> None:
        """Close the file, which is gone if he does not have it open."""
        close(self._fd)

    def _write(self, at: int) -> bytes:
        """Write all that is kept to *at* in the file; return what says so."""
        if self._fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        header = REPLY.pack(FORM, 0, self.size, 0, self.lost)
        _write_all(self._fd, header, at)
        at += REPLY.size
        pieces = [piece for piece, _ in self.pieces]
        for some in range(0, len(pieces), _PARTS):
            at += _write_parts(self._fd, pieces[some : some + _PARTS], at)
        self.pieces.clear()
        self.size = self.count = self.lost = 0
        return header


def add_lost(fd: int, lost: int) -> None:
    """Say in the file *fd*, which has been left, that *lost* events more are not in it."""
    if fd < 0 or not lost:
        return
    header = os.pread(fd, REPLY.size, REST_AT)
    if len(header) == REPLY.size:
        form, more, size, pid, before = REPLY.unpack(header)
        os.pwrite(fd, REPLY.pack(form, more, size, pid, before + lost), REST_AT)


def close(fd: int) -> None:
    """Close the file *fd*, if there is one."""
    if fd >= 0:
        os.close(fd)


def _memory_file(name: bytes) -> int:
    """Return a file that says whom it is for; -1 where there is no room for one."""
    try:
        fd = os.memfd_create(MEMORY, os.MFD_CLOEXEC)
    except OSError:
        return -1
    try:
        _write_all(fd, name, 0)
    except OSError:
        os.close(fd)
        return -1
    return fd


def _write_parts(fd: int, parts: Sequence[bytes], at: int) -> int:
    """Write *parts*, of which there are _PARTS at most; return how many bytes they are."""
    size = sum(map(len, parts))
    written = os.pwritev(fd, parts, at)
    if written < size:
        _write_all(fd, b"".join(parts)[written:], at + written)
    return size


def _write_all(fd: int, data: bytes, at: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, at)
        rest, at = rest[written:], at + written
