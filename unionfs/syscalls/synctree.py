"""Making many files durable: by syncfs(2) where that does it, and one by one where it does not.

For thousands of files syncfs(2) is far cheaper than an fsync of each.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from functools import partial

from unionfs.syscalls.at import open_beneath
from unionfs.syscalls.publish import sync_filesystem
from unionfs.syscalls.settle import syncs_all

_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # nor wait for a fifo's writer
_AT_A_TIME = 16  # a journal takes those that come together in one go


def sync_tree(path: str) -> None:
    """Make the directory *path* and all that is below it durable. Raises OSError.

    Nobody may be changing it. It is on the filesystem of its parent.
    """
    above = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if syncs_all(above):
            sync_filesystem(above)
            return
    finally:
        os.close(above)
    top = os.open(path, _DIR)
    try:
        _sync_each(top)
    finally:
        os.close(top)


def sync_files(names: Iterable[bytes], dir_fd: int) -> None:
    """Make the regular files *names* in *dir_fd* durable, and then its names. Raises OSError."""
    for name in names:
        _sync_file(dir_fd, name)
    os.fsync(dir_fd)


def _sync_file(dir_fd: int, name: bytes) -> None:
    """Sync the regular file *name*; what is gone, or is a symbolic link, has nothing to sync."""
    try:
        fd = os.open(name, _FILE, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_each(top: int) -> None:
    # Imported here: every command and mount would wait for it, and few stores are there.
    from concurrent.futures import ThreadPoolExecutor, wait

    pending = [b"."]
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        while pending:
            here = pending.pop()
            fd = open_beneath(top, here, _DIR)
            try:
                files, directories = _entries(fd)
                syncing = [pool.submit(partial(_sync_file, fd, name)) for name in files]
                wait(syncing)  # all of them, before the descriptor goes
                for each in syncing:
                    each.result()
                os.fsync(fd)
            finally:
                os.close(fd)
            pending += [here + b"/" + name for name in directories]


def _entries(fd: int) -> tuple[list[bytes], list[bytes]]:
    """Return the names in the directory *fd* that are regular files, and those of directories."""
    files, directories = [], []
    with os.scandir(fd) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                directories.append(os.fsencode(entry.name))
            elif entry.is_file(follow_symlinks=False):
                files.append(os.fsencode(entry.name))
    return files, directories
