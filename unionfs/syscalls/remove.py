"""Removing a directory with everything in it, however deep it is and whoever made it.

shutil.rmtree recurses, and holds a descriptor for every level.
"""

from __future__ import annotations

import errno
import os
import stat

from unionfs.syscalls.at import open_dir, proc_path


def remove_tree(dir_fd: int, name: bytes) -> None:
    """Remove *name* in *dir_fd*, a directory with its content or anything else.

    Never follows a symbolic link and never leaves the directory: the way up is checked to be the
    way that led down. Nobody else may be changing the tree. A mount point in it ends the removal
    with EBUSY, and what is mounted there is not touched. Raises OSError.
    """
    if not stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=dir_fd)
        return
    levels: list[tuple[bytes, list[bytes], tuple[int, int]]] = []
    fd = os.dup(dir_fd)
    try:
        todo = [name]
        while True:
            if todo and _rmdir(fd, todo[-1]):
                todo.pop()
                continue
            if todo:
                here = _identity(fd)
                step = _open_writable(fd, todo[-1])
                levels.append((todo.pop(), todo, here))
                fd, previous = step, fd
                os.close(previous)
                todo = _clear(fd)
                continue
            if not levels:
                return
            done, todo, above = levels.pop()
            fd, previous = _up(fd, dir_fd if not levels else None, above), fd
            os.close(previous)
            os.rmdir(done, dir_fd=fd)
    finally:
        os.close(fd)


def _rmdir(fd: int, name: bytes) -> bool:
    """Remove the directory *name* if it is empty; return False if it is not.

    Before a directory is entered, since rmdir(2) tells a mount point (EBUSY) before it looks at
    the content: of what is mounted in a tree, nothing may be removed.
    """
    try:
        os.rmdir(name, dir_fd=fd)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _clear(fd: int) -> list[bytes]:
    """Unlink all but directories in *fd*; return the names of its directories."""
    found = []
    with os.scandir(fd) as entries:
        listed = [(os.fsencode(e.name), e.is_dir(follow_symlinks=False)) for e in entries]
    for name, is_dir in listed:
        if is_dir:
            found.append(name)
        else:
            os.unlink(name, dir_fd=fd)
    return found


def _up(fd: int, top: int | None, expected: tuple[int, int]) -> int:
    """Return a descriptor of the parent of *fd*: of *top* where that is it."""
    if top is not None:
        return os.dup(top)
    parent = open_dir(fd, b"..")
    if _identity(parent) != expected:
        os.close(parent)
        raise OSError(errno.ESTALE, "directory moved while it was being removed")
    return parent


def _identity(fd: int) -> tuple[int, int]:
    st = os.fstat(fd)
    return st.st_dev, st.st_ino


def _open_writable(dir_fd: int, name: bytes) -> int:
    """Open the directory *name*; its owner gets the permissions that removing needs."""
    if os.geteuid() != 0:
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
        try:
            if stat.S_IMODE(os.fstat(handle).st_mode) & 0o700 != 0o700:
                os.chmod(proc_path(handle), 0o700)
        finally:
            os.close(handle)
    return open_dir(dir_fd, name)
