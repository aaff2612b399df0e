"""inotify(7) and open-file-description locks, which Python's library lacks."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_EVENT = struct.Struct("iIII")
_NAMES = (
    ("ACCESS", 0x1),
    ("MODIFY", 0x2),
    ("ATTRIB", 0x4),
    ("CLOSE_WRITE", 0x8),
    ("CLOSE_NOWRITE", 0x10),
    ("OPEN", 0x20),
    ("MOVED_FROM", 0x40),
    ("MOVED_TO", 0x80),
    ("CREATE", 0x100),
    ("DELETE", 0x200),
    ("DELETE_SELF", 0x400),
    ("MOVE_SELF", 0x800),
    ("UNMOUNT", 0x2000),
    ("OVERFLOW", 0x4000),
    ("IGNORED", 0x8000),
    ("ISDIR", 0x40000000),
)
_ALL = 0xFFF
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class Watch:
    """What happened to some paths, from the moment on that they were added."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._paths: dict[int, bytes] = {}

    def add(self, path: bytes, label: bytes) -> None:
        """Watch *path*, which the events call *label*."""
        self._paths[_check(_libc.inotify_add_watch(self._fd, path, _ALL))] = label

    def events(self) -> list[tuple[bytes, bytes, str]]:
        """Return what has happened since the last call: label, name in it, what."""
        found = []
        while data := self._read():
            at = 0
            while at < len(data):
                number, mask, _cookie, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size + length
                name = data[at - length : at].rstrip(b"\0")
                words = "|".join(word for word, bit in _NAMES if mask & bit)
                found.append((self._paths[number], name, words))
        return found

    def _read(self) -> bytes:
        try:
            return os.read(self._fd, 65536)
        except BlockingIOError:
            return b""


@contextmanager
def watch() -> Iterator[Watch]:
    """An inotify instance without a watch yet."""
    fd = _check(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    try:
        yield Watch(fd)
    finally:
        os.close(fd)
