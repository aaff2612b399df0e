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

from unionfs.syscalls import at, flags, handle, settle, space

_OS = (  # noqa: SIM905
    "chmod chown copy_file_range dup fchmod fchown fdatasync fstat fsync ftruncate getxattr "
    "link listdir listxattr lseek mkdir mknod open pread pwrite readlink rename rmdir scandir stat "
    "symlink truncate unlink utime"
).split()
_OTHERS = (
    (at, "_renameat2"),
    (at, "_syscall"),
    (flags, "_statx"),
    (handle, "_name_to_handle_at"),
    (handle, "_open_by_handle_at"),
    (settle, "_sync_file_range"),
    (space, "_fallocate"),
    (xattr_package, "setxattr"),
    (xattr_package, "removexattr"),
    (fcntl, "ioctl"),
)


_DISTINCT = 5  # calls are the same place in the code where so many callers are the same


class Killed(BaseException):
    """The daemon is dead from here on."""


class Faults:
    """Counts calls while armed; see the module."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.fail_at = -1
        self.kill = False
        self._armed = False
        self._place = ""
        self.hit = ""  # the call that failed, with the functions that led to it
        self.where: list[str] = []
        self.places: list[str] = []
        for name in _OS:
            patch.setattr(os, name, self._wrap(getattr(os, name), name))
        for module, name in _OTHERS:
            patch.setattr(module, name, self._wrap(getattr(module, name), name))

    def _wrap(self, real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._armed and sys._getframe(1).f_globals["__name__"].startswith("unionfs."):
                self._count(name)
            return real(*args, **kwargs)

        return call

    def _count(self, name: str) -> None:
        number = self.count
        self.count += 1
        if self.fail_at < 0:
            self.places.append(f"{name} in {' < '.join(_callers()[:_DISTINCT])}")
        if self._place and not self.hit and self._is_place(name):
            self.fail_at = number
        if number == self.fail_at or (self.kill and 0 <= self.fail_at < number):
            if not self.hit:
                self.where = _callers()
                self.hit = f"{name} in {' < '.join(self.where)}"
            if self.kill:
                raise Killed
            raise OSError(errno.EIO, os.strerror(errno.EIO), name)

    def _is_place(self, name: str) -> bool:
        return f"{name} in {' < '.join(_callers())} ".startswith(self._place + " ")

    def inside(self, *functions: str) -> bool:
        """Return whether the fault was in one of *functions*, or in what one called."""
        return not set(functions).isdisjoint(self.where)

    def new_places(self, tried: set[str]) -> list[int]:
        """Return the numbers of the calls just counted that are at places not in *tried*.

        They are then. All verbs share the steps of a copy-up, which need not fail for each of them.
        """
        numbers = []
        for number, place in enumerate(self.places):
            if place not in tried:
                tried.add(place)
                numbers.append(number)
        return numbers

    def start(self, fail_at: int = -1, *, kill: bool = False, place: str = "") -> None:
        """Count from 0, and let the call *fail_at* fail (-1: none), or the first at *place*.

        A place is the beginning of what ``hit`` is to be: ``"mkdir in ensure_dir"``.
        """
        self._place = place
        self.count, self.fail_at, self.kill, self.places = 0, fail_at, kill, []
        self.hit, self.where = "", []

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Count the calls that are made within."""
        self._armed = True
        try:
            yield
        finally:
            self._armed = False


def _callers() -> list[str]:
    """Return the names of unionfs's functions that led here, innermost first."""
    names = []
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_globals["__name__"].startswith("unionfs."):
            names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names
