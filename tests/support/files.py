"""Short words for what mount tests do with files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import kernel


def read(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def write(path: bytes, data: bytes) -> None:
    """Make *path*, or replace its content, by O_TRUNC."""
    with open(path, "wb") as file:
        file.write(data)


def ino(path: bytes) -> int:
    return os.lstat(path).st_ino


@contextmanager
def opened(
    path: bytes, flags: int, mode: int = 0o644, *, dir_fd: int | None = None
) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC, mode, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def refused(number: int) -> Iterator[None]:
    """Expect the errno *number* of the block."""
    try:
        yield
    except OSError as error:
        name = errno.errorcode[error.errno or 0]
        assert error.errno == number, f"{name} rather than {errno.errorcode[number]}"
    else:
        raise AssertionError(f"succeeded rather than {errno.errorcode[number]}")


def as_user(
    function,
    *,
    uid: int = 1000,
    gid: int = 1000,
    groups: tuple[int, ...] = (),
    capabilities: int | None = None,
) -> int:
    """Call *function* in a child of this process that is *uid*; return the errno, 0 for success.

    With *capabilities* (a bit for each number) it has those, and without, what its user ID has.
    """
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            if capabilities is None:
                os.setresuid(uid, uid, uid)
            else:
                kernel.become_with(uid, capabilities)
            function()
            status = 0
        except OSError as error:
            status = error.errno or 255
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
