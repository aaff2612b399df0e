"""Removing a tree whose shape an attacker chose: any depth, any mode, never through a link.

``shutil.rmtree`` recurses, and a layer may be thousands of directories deep. Here each directory
that is not empty is first renamed up to the top, so that nothing is ever more than one level down:
no recursion, three descriptors. A mount point below stops it with EBUSY (rmdir(2) and rename(2)
refuse mount points): what is mounted there is never touched.
"""

from __future__ import annotations

import errno
import os
import secrets

from unionfs.syscalls.at import open_dir, proc_path, renameat2


def remove_tree(parent_fd: int, name: bytes) -> None:
    """Remove the directory *name* in *parent_fd* and all below it; nothing if it is not there.

    Raises OSError; what could not be removed is then still below *name*.
    """
    try:
        top = _open_writable(parent_fd, name)
    except FileNotFoundError:
        return
    try:
        _Remover(top).run()
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent_fd)


class _Remover:
    """Empties the directory *top*; directories wait in it under names nobody else gives."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._prefix = secrets.token_hex(8).encode()
        self._taken = 0
        self._waiting: list[bytes] = []

    def run(self) -> None:
        self._empty(self._top)
        while self._waiting:
            current = self._waiting.pop()
            fd = _open_writable(self._top, current)
            try:
                self._empty(fd)
            finally:
                os.close(fd)
            os.rmdir(current, dir_fd=self._top)

    def _empty(self, fd: int) -> None:
        """Unlink the files in *fd* and its empty directories; move the others to the top."""
        with os.scandir(fd) as entries:
            content = [(os.fsencode(e.name), e.is_dir(follow_symlinks=False)) for e in entries]
        for name, is_dir in content:
            if not is_dir:
                os.unlink(name, dir_fd=fd)
            elif not _rmdir(fd, name):
                self._move_up(fd, name)

    def _move_up(self, fd: int, name: bytes) -> None:
        new = b"%s.%d" % (self._prefix, self._taken)
        self._taken += 1
        try:
            renameat2(fd, name, self._top, new)
        except PermissionError:
            _make_writable(fd, name)  # moving a directory changes its "..", which is a write
            renameat2(fd, name, self._top, new)
        self._waiting.append(new)


def _open_writable(parent_fd: int, name: bytes) -> int:
    """Open the directory *name*, its own mode bits being no obstacle to us who own it."""
    try:
        fd = open_dir(parent_fd, name)
    except PermissionError:
        _make_writable(parent_fd, name)
        fd = open_dir(parent_fd, name)
    if os.fstat(fd).st_mode & 0o700 != 0o700:
        os.fchmod(fd, 0o700)
    return fd


def _make_writable(parent_fd: int, name: bytes) -> None:
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent_fd)
    try:
        os.chmod(proc_path(fd), 0o700)
    finally:
        os.close(fd)


def _rmdir(fd: int, name: bytes) -> bool:
    try:
        os.rmdir(name, dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True
