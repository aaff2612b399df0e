"""What a daemon is asked while it serves: lines of JSON through a socket beside its mount.

The socket is its owner's only, in a directory that is its owner's only. One request a line,
``{"do": NAME, …}``; the answer is ``{"done": NAME}`` or ``{"error": WHY}``.

``freeze``
    The mount answers nothing more, and nothing changes any more, until ``thaw`` or the end of the
    connection: who asked may be killed, and the mount goes on. One at a time.
``prepare`` (``upper``, ``work``, ``lowers``, ``names``: as ``MountConfig`` has them)
    Of a frozen mount: it gets ready to go on with other directories, or says why that cannot be.
``go_on`` (``offered``, ``taken``: paths)
    Of a prepared mount: the file ``offered`` is renamed to ``taken``, which is what decides, and
    the mount is on those directories. Where the file is gone, somebody else has decided, and the
    mount stays on the old ones, as at the end of the connection.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from unionfs.errors import UnionfsError, os_error_line
from unionfs.options import LowerName, MountConfig

if TYPE_CHECKING:
    import trio

_log = logging.getLogger("unionfs.daemon")
_LONGEST = 1 << 22  # bytes in a request: some hundred paths
_CHUNK = 1 << 16
_BACKLOG = 8


class Freezable(Protocol):
    """What can be made to answer nothing for a while, and to be on other directories then."""

    async def freeze(self) -> None:
        """Return when no request is under way and none is begun.

        Raises OSError if that is impossible, and UnionfsError where it would not be enough.
        """

    def thaw(self) -> None:
        """Go on."""

    def prepare(self, stack: MountConfig) -> None:
        """Get ready for ``go_on`` with the directories of *stack*. Raises UnionfsError, OSError."""

    def is_prepared(self) -> bool:
        """Return whether ``go_on`` may be called."""

    def stay(self) -> None:
        """Go on as before, if ``prepare`` was called."""

    def go_on(self) -> None:
        """Be on what was prepared."""


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
    talk = _Talk(subject, lock)
    try:
        with connection:
            async with aclosing(_requests(connection)) as requests:
                async for request in requests:
                    await connection.send(_line(await talk.answer(request)))
    except (OSError, ValueError) as error:
        _log.warning("a request to the daemon failed: %s", error)
    except Exception:
        _log.exception("a request to the daemon failed")
    finally:
        talk.end()


class _Talk:
    """What one connection has asked for so far. The holder of *lock* has *subject* frozen."""

    def __init__(self, subject: Freezable, lock: trio.Lock) -> None:
        self._subject = subject
        self._lock = lock
        self._frozen = False

    async def answer(self, request: Mapping[str, Any]) -> dict[str, str]:
        """Do what *request* says; return the answer. Raises OSError if the mount cannot rest."""
        name = str(request.get("do"))
        if name == "freeze" and not self._frozen:
            await self._lock.acquire()
            self._frozen = True
            try:
                await self._subject.freeze()
            except UnionfsError as error:
                self.end()
                return {"error": str(error)}
        elif name == "prepare" and self._frozen:
            try:
                self._subject.prepare(_stack(request))
            except UnionfsError as error:
                return {"error": str(error)}
            except OSError as error:
                return {"error": os_error_line(error)}
        elif name == "go_on" and self._frozen and self._subject.is_prepared():
            if not _go_on(self._subject, *_paths(request)):
                return {"error": "it was given up"}
        elif name == "thaw" and self._frozen:
            self.end()
        else:
            return {"error": f"no such request now: {name[:80]!r}"}
        return {"done": name}

    def end(self) -> None:
        """Let the mount go on, if it was kept from that."""
        if self._frozen:
            self._frozen = False
            self._subject.stay()
            self._subject.thaw()
            self._lock.release()


def _stack(request: Mapping[str, Any]) -> MountConfig:
    """Return what ``prepare`` is asked for. Raises ValueError for what is nothing of the kind."""
    try:
        return MountConfig(
            tuple(os.fsencode(path) for path in request["lowers"]),
            upperdir=os.fsencode(request["upper"]),
            workdir=os.fsencode(request["work"]),
            lower_names=tuple(LowerName(int(one), str(other)) for one, other in request["names"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a stack of layers: {error}") from error


def _paths(request: Mapping[str, Any]) -> tuple[str, str]:
    """Return what ``go_on`` is asked to rename, and to what. Raises ValueError."""
    offered, taken = request.get("offered"), request.get("taken")
    if not isinstance(offered, str) or not isinstance(taken, str):
        raise ValueError("no paths to decide by")
    return offered, taken


def _go_on(subject: Freezable, offered: str, taken: str) -> bool:
    """Rename *offered* to *taken*, and let *subject* be on what was prepared.

    Returns False, with nothing done, if *offered* is gone. Once that is renamed the new upper is
    the one that counts: a mount that could not follow must end, since what it changed in the old
    one would be lost.
    """
    try:
        os.rename(offered, taken)
    except FileNotFoundError:
        return False
    try:
        subject.go_on()
    except BaseException:
        _log.critical("the mount cannot go on on its new layers, and ends", exc_info=True)
        os._exit(1)
    try:
        _sync(os.path.dirname(taken))
    except OSError as error:
        _log.warning("%s may be forgotten in a power loss: %s", taken, error)
    return True


def _sync(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


async def _requests(
    connection: trio.socket.SocketType,
) -> AsyncGenerator[Mapping[str, Any], None]:
    """Yield the requests that come. Raises ValueError for what is none."""
    import json  # here, as below: a plain mount is not to pay for it before it forks

    pending = b""
    while len(pending) <= _LONGEST:
        data = await connection.recv(_CHUNK)
        if not data:
            return
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            yield request if isinstance(request, dict) else {}
    raise ValueError("a request that is too long")


def _line(answer: dict[str, str]) -> bytes:
    import json

    return json.dumps(answer).encode() + b"\n"
