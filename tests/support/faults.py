"""Making one system call of unionfs fail, or be its last, by its number.

Every function through which the driver's rooms reach the kernel is counted while ``armed``. Numbers
run from 0. The call with number ``fail_at`` raises OSError (``EIO``) instead of being made; with
``kill`` it raises ``Killed``, and so does every later one, as nothing runs after SIGKILL.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import xattr as xattr_package

from unionfs.syscalls import at, handle

_OS = (
    "chmod chown copy_file_range dup fchmod fchown fdatasync fstat fsync ftruncate getxattr "
    "listdir listxattr lseek mkdir mknod open pread pwrite readlink rename rmdir scandir stat "
    "symlink unlink utime"
).split()
_OTHERS = (
    (at, "_renameat2"),
    (at, "_linkat"),
    (at, "_syscall"),
    (handle, "_name_to_handle_at"),
    (handle, "_open_by_handle_at"),
    (xattr_package, "setxattr"),
    (xattr_package, "removexattr"),
    (fcntl, "ioctl"),
)


class Killed(BaseException):
    """The daemon is dead from here on."""


class Faults:
    """Counts calls while armed; see the module."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.fail_at = -1
        self.kill = False
        self.armed = False
        self.hit = ""
        self.cleaning = False
        for name in _OS:
            patch.setattr(os, name, self._wrap(getattr(os, name), name))
        for module, name in _OTHERS:
            patch.setattr(module, name, self._wrap(getattr(module, name), name))

    def _wrap(self, real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.armed and sys._getframe(1).f_globals["__name__"].startswith("unionfs."):
                self._count(name)
            return real(*args, **kwargs)

        return call

    def _count(self, name: str) -> None:
        number = self.count
        self.count += 1
        if number == self.fail_at or (self.kill and 0 <= self.fail_at < number):
            if not self.hit:
                where = _callers()
                self.hit = f"{name} in {' < '.join(where)}"
                self.cleaning = bool({"discard", "_empty", "clear_away"} & set(where))
            if self.kill:
                raise Killed
            raise OSError(errno.EIO, os.strerror(errno.EIO), name)

    @contextmanager
    def during(self, fail_at: int, *, kill: bool = False) -> Iterator[Faults]:
        """Count from 0, and let the call *fail_at* fail (-1: none)."""
        self.count, self.fail_at, self.kill, self.hit, self.cleaning = 0, fail_at, kill, "", False
        self.armed = True
        try:
            yield self
        finally:
            self.armed = False


def _callers() -> list[str]:
    """Return the names of unionfs's functions that led here, innermost first."""
    names = []
    frame = sys._getframe(3)
    while frame is not None:
        if frame.f_globals["__name__"].startswith("unionfs."):
            names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names
