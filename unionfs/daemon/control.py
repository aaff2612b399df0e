"""What a daemon is asked while it serves: lines of JSON through a socket beside its mount.

The socket is its owner's only, in a directory that is its owner's only. One request a line,
``{"do": NAME}``; the answer is ``{"done": NAME}`` or ``{"error": WHY}``.

``freeze``
    The mount answers nothing more, and nothing changes any more, until ``thaw`` or the end of the
    connection: who asked may be killed, and the mount goes on. One at a time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import trio

_log = logging.getLogger("unionfs.daemon")
_LONGEST = 4096  # bytes in a request
_BACKLOG = 8


class Freezable(Protocol):
    """What can be made to answer nothing for a while."""

    async def freeze(self) -> None:
        """Return when no request is under way and none is begun. Raises OSError if impossible."""

    def thaw(self) -> None:
        """Go on."""


@asynccontextmanager
async def listening(path: bytes | None, subject: Freezable) -> AsyncIterator[None]:
    """Answer requests about *subject* on the socket *path* (None: nowhere) during the block."""
    import trio

    if path is None:
        yield
        return
    listener = await _bound(path)
    lock = trio.Lock()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_accept, nursery, listener, subject, lock)
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()
            listener.close()
            _remove(path)


async def _bound(path: bytes) -> trio.socket.SocketType:
    """Return a listening socket at *path*, in the place of one that a killed daemon left.

    Its directory is reached by a descriptor: a socket's own path may have 107 bytes only (unix(7)).
    """
    import trio

    _remove(path)
    listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        await listener.bind(b"/proc/self/fd/%d/%s" % (fd, name))
        os.chmod(path, 0o600)
        listener.listen(_BACKLOG)
    finally:
        os.close(fd)
    return listener


def _remove(path: bytes) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


async def _accept(
    nursery: trio.Nursery,
    listener: trio.socket.SocketType,
    subject: Freezable,
    lock: trio.Lock,
) -> None:
    while True:
        connection, _ = await listener.accept()
        nursery.start_soon(_converse, connection, subject, lock)


async def _converse(
    connection: trio.socket.SocketType, subject: Freezable, lock: trio.Lock
) -> None:
    """Answer the requests of one connection; nothing that goes wrong here ends the mount."""
    frozen = False
    try:
        with connection:
            async for name in _requests(connection):
                if name == "freeze" and not frozen:
                    await lock.acquire()
                    frozen = True
                    await subject.freeze()
                elif name == "thaw" and frozen:
                    subject.thaw()
                    lock.release()
                    frozen = False
                else:
                    await connection.send(_line({"error": f"no such request now: {name[:80]!r}"}))
                    continue
                await connection.send(_line({"done": name}))
    except (OSError, ValueError) as error:
        _log.warning("a request to the daemon failed: %s", error)
    finally:
        if frozen:
            subject.thaw()
            lock.release()


async def _requests(connection: trio.socket.SocketType) -> AsyncIterator[str]:
    """Yield the names of the requests that come. Raises ValueError for what is none."""
    import json  # here, as below: a plain mount is not to pay for it before it forks

    pending = b""
    while len(pending) <= _LONGEST:
        data = await connection.recv(_LONGEST)
        if not data:
            return
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            yield str(request.get("do")) if isinstance(request, dict) else ""
    raise ValueError("a request that is too long")


def _line(answer: dict[str, str]) -> bytes:
    import json

    return json.dumps(answer).encode() + b"\n"
