"""Work in progress: temporary directories that die with their writer, and locks on names.

Both are flocks on something that its holder unlinks at the end, so both are taken by the same
rule: open, lock, and look whether the name still means what was locked; if not, begin again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from unionfs.syscalls.at import RENAME_NOREPLACE, renameat2
from unionfs.syscalls.publish import fsync_dir
from unionfs.syscalls.remove import remove_tree

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_CWD = -100  # AT_FDCWD
_FULL = (errno.ENOSPC, errno.EDQUOT)
SCRATCH, LOCK = "temporary directory", "lock"

Take = Callable[[str, str, str, Callable[[], bool | None]], None]
"""Removes something of a kind, with this name and path, by calling the last; or only notes it."""


@dataclass(frozen=True, slots=True)
class ScratchDirectory:
    """A directory below ``tmp/`` whose flock its maker holds: its *name* and absolute *path*."""

    name: str
    path: str


class Scratch:
    """Temporary directories in *tmp* and lock files in *locks*.

    The empty file *spare* becomes the lock where there is no inode left for a new one, so that what
    fills the filesystem can be removed: discarding takes neither an inode nor a block.
    """

    def __init__(self, tmp: str, locks: str, spare: str) -> None:
        self._tmp = tmp
        self._locks = locks
        self._spare = spare

    @contextmanager
    def directory(self) -> Iterator[ScratchDirectory]:
        """A new directory (0700), removed with all that is still in it at the end.

        Raises OSError (ENOSPC, EACCES).
        """
        name, fd = self._claim()
        try:
            yield ScratchDirectory(name, os.path.join(self._tmp, name))
        finally:
            try:
                self._remove(name)
            finally:
                os.close(fd)

    def is_living(self, name: str) -> bool:
        """Return whether the scratch directory *name* has a living writer."""
        fd = self._lock_if_dead(name)
        if fd is None:
            return os.path.isdir(os.path.join(self._tmp, name))
        os.close(fd)
        return False

    def clean(self, take: Take) -> None:
        """Have *take* remove what dead holders and writers left.

        What cannot be removed (an immutable file in it, say) stays and hinders nobody.
        """
        self._clean_locks(take)
        for name in os.listdir(self._tmp):
            fd = self._lock_if_dead(name)
            if fd is None:
                continue
            try:
                path = os.path.join(self._tmp, name)
                take(SCRATCH, name, path, partial(self._remove, name))
            except OSError:
                pass
            finally:
                os.close(fd)

    def _clean_locks(self, take: Take) -> None:
        """Remove the lock files of dead holders; one of a container's is never asked for again."""
        for name in os.listdir(self._locks):
            path = os.path.join(self._locks, name)
            try:
                fd = _lock(path, _FILE & ~os.O_CREAT, wait=False)
            except OSError:
                continue  # held, or gone by itself
            try:
                take(LOCK, name, path, partial(self._drop, path))
            except OSError:
                pass
            finally:
                os.close(fd)

    def discard(self, path: str) -> None:
        """Take the directory *path* out of its place in one step, then remove its content.

        The name goes at once and durably; a crash later leaves a dead scratch directory. Nothing
        happens if *path* is not there. Raises OSError (EBUSY for a mount point).
        """
        try:
            fd = _lock(path, _DIR)
        except FileNotFoundError:
            return
        try:
            name = secrets.token_hex(8)
            os.rename(path, os.path.join(self._tmp, name))
            fsync_dir(os.path.dirname(path))
            self._remove(name)
        finally:
            os.close(fd)

    def keep_spare(self) -> None:
        """Make the spare lock if it is gone; where that is impossible now, another time."""
        if not os.path.lexists(self._spare):
            try:
                os.close(os.open(self._spare, _FILE, 0o600))
            except OSError:
                pass

    @contextmanager
    def locked(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Hold the lock that stands for making or removing *name*.

        With *wait* False raises BlockingIOError where somebody else holds it.
        """
        path = os.path.join(self._locks, name)
        try:
            fd = _lock(path, _FILE, wait=wait)
        except OSError as error:
            if error.errno not in _FULL or not self._place_spare(path):
                raise
            fd = _lock(path, _FILE, wait=wait)
        try:
            yield
        finally:
            try:
                self._drop(path)  # while locked: who waits for it sees the name gone, and retries
            finally:
                os.close(fd)

    def _place_spare(self, path: str) -> bool:
        """Let the spare be the lock file *path*; return False if somebody else has taken it."""
        try:
            renameat2(_CWD, os.fsencode(self._spare), _CWD, os.fsencode(path), RENAME_NOREPLACE)
        except FileExistsError:
            return True  # the lock is there now, and can be waited for
        except FileNotFoundError:
            return False
        return True

    def _drop(self, path: str) -> None:
        """Take the lock file *path* away; it becomes the spare if there is none."""
        if os.path.lexists(self._spare):
            os.unlink(path)
        else:
            os.rename(path, self._spare)

    def _claim(self) -> tuple[str, int]:
        while True:
            name = secrets.token_hex(8)
            path = os.path.join(self._tmp, name)
            os.mkdir(path, 0o700)
            try:
                return name, _lock(path, _DIR)
            except FileNotFoundError:
                continue  # a cleaner took it for a dead one before we had locked it

    def _lock_if_dead(self, name: str) -> int | None:
        try:
            return _lock(os.path.join(self._tmp, name), _DIR, wait=False)
        except (BlockingIOError, FileNotFoundError, NotADirectoryError):
            return None

    def _remove(self, name: str) -> None:
        tmp_fd = os.open(self._tmp, _DIR)
        try:
            remove_tree(tmp_fd, os.fsencode(name))
        finally:
            os.close(tmp_fd)


def _lock(path: str, flags: int, *, wait: bool = True) -> int:
    """Return a descriptor of *path* that holds its flock, of the file which has that name now."""
    while True:
        fd = os.open(path, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_named(fd, path):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _is_named(fd: int, path: str) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(fd), there)
