"""Asking the resident spawner (``unionfs serve``) for a mount, which then takes no import time.

The caller's side; ``spawner`` is the other. One connection of a SOCK_SEQPACKET socket is one call:
a message with its words, environment and umask, which is answered with ``TAKEN`` (or ``NOT_HERE``);
one with its standard descriptors and working directory, upon which it is begun; and the exit status
in digits (or ``NOT_HERE``: it was not begun). When the connection ends earlier the spawner ends
what it does for it.

A spawner that is stopped, say, is not waited for, and may come to the call when it goes on. By then
the caller has gone, who has done it himself: so nothing is begun before he has heard that it is
taken. Nor does he send his descriptors before, which nobody could take out of the socket again: who
reads what he says would wait for its end as long as the spawner is stopped.

``_client.c``, which is the command ``unionfs`` where it could be compiled, does the same without
Python. This module imports little: that is the time which it is there to save.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from unionfs import __version__
from unionfs.errors import UnavailableError

if TYPE_CHECKING:
    import socket

VARIABLE = "UNIONFS_SERVE"  # the socket's path; empty: ask nobody
TAKEN, NOT_HERE = b"taken", b"not here"
LONGEST = 192 << 10  # bytes of a message; the kernel's usual limit is a little more (socket(7))
PATIENCE = 5  # seconds for the spawner to take a call: longer than many at once take
_OVERFLOW_USER = 65534  # overflowuid, as Linux begins


class SpawnerGoneError(UnavailableError):
    """The spawner ended before it said how a mount had gone."""


def socket_path() -> str | None:
    """Return where this user's spawner listens if there is one; None where there can be none.

    Root of a user namespace, as which rootless engines mount, is the user that he is outside.
    """
    given = os.environ.get(VARIABLE)
    if given is not None:
        return given or None
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and (os.geteuid() != 0 or not _in_initial_user_namespace()):
        return f"{runtime}/unionfs/serve"
    return "/run/unionfs/serve" if os.geteuid() == 0 else None


def _in_initial_user_namespace() -> bool:
    from unionfs.syscalls.capability import in_initial_user_namespace

    try:
        return in_initial_user_namespace()
    except OSError:
        return False  # there is no /proc


def ask(argv: Sequence[str]) -> int | None:
    """Have the spawner do the call *argv* as this process would; return its exit status.

    None if there is none, or none that can: this process has to do it. Raises SpawnerGoneError.
    """
    path = socket_path()
    if path is None or not os.path.exists(path):
        return None
    message = pack(argv)
    if len(message) > LONGEST or not _are_open():
        return None
    try:
        here = os.open(".", os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _ask_at(path, message, here)
    finally:
        os.close(here)


def _ask_at(path: str, message: bytes, here: int) -> int | None:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            _be_patient(connection, PATIENCE)
            connection.connect(path)
            if not _is_mine(connection):
                return None
            connection.send(message)
            if connection.recv(64) != TAKEN:
                return None
            _be_patient(connection, 0)
            socket.send_fds(connection, [b"\0"], [0, 1, 2, here])
        except BlockingIOError:
            print(
                "unionfs: the resident spawner does not answer: going on without it",
                file=sys.stderr,
            )
            return None
        except OSError:
            return None  # nobody listens any more, or the path is too long for a socket
        return _status(connection)


def _be_patient(connection: socket.socket, seconds: int) -> None:
    """Let no call take longer; 0: as long as it likes. connect(2) waits for as long as send(2)."""
    import socket
    import struct

    limit = struct.pack("@ll", seconds, 0)  # struct timeval
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, limit)


def _are_open() -> bool:
    """Return whether all standard descriptors are: else what is opened next is taken for one."""
    try:
        for number in range(3):
            os.fstat(number)
    except OSError:
        return False
    return True


def pack(argv: Sequence[str]) -> bytes:
    """Return the message of the call *argv* of this process, with NUL between its fields."""
    umask = os.umask(0o077)
    os.umask(umask)
    fields = [__version__.encode(), b"%o" % umask, b"%d" % len(argv)]
    fields += [os.fsencode(word) for word in argv]
    fields += [name + b"=" + value for name, value in os.environb.items()]
    return b"\0".join(fields)


def _status(connection: socket.socket) -> int | None:
    answer = connection.recv(64)
    if answer == NOT_HERE:
        return None
    if not answer.isdigit() or len(answer) > 3 or int(answer) > 255:
        raise SpawnerGoneError("the resident spawner ended before it said whether it is mounted")
    return int(answer)


def _is_mine(connection: socket.socket) -> bool:
    """Return whether this user listens at the other end, and nobody who only looks like him.

    In a user namespace all users without a name there look alike (user_namespaces(7)).
    """
    import socket

    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)  # pid, uid, gid
    uid = int.from_bytes(credentials[4:8], sys.byteorder)
    return uid == os.geteuid() and (_in_initial_user_namespace() or uid != _overflow_user())


def _overflow_user() -> int:
    try:
        with open("/proc/sys/fs/overflowuid", encoding="ascii") as file:
            return int(file.read())
    except OSError:
        return _OVERFLOW_USER
