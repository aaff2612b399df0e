"""The requests of a mount as they happen, for ``unionfs trace``: asked of its daemon.

Through attributes of the mount's root, as ``stats`` does (``fuse.told``): every mount has them,
whoever made it, and they need no socket that a container might find.
"""

from __future__ import annotations

import errno
import os
import secrets
import select
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import count

from unionfs.container.stats import read_stats
from unionfs.daemon import client
from unionfs.errors import UnavailableError
from unionfs.inspect.event import Event
from unionfs.inspect.piece import FormError, Piece, decoded
from unionfs.inspect.records import END, MEMORY, REPLY, REPLY_MORE_AT, REST_AT
from unionfs.syscalls import large_xattr

_TRACE = b"user.unionfs.trace."  # fuse.told; then the reader's name and which answer it wants
_PAUSE = 0.1  # seconds between two questions when nothing happens
_LEAVING = 8.0  # seconds in which a daemon leaves, or drops a reader whom it does not hear any more

_Answer = tuple[list[Piece], int, bool]

# What tells that the mount is gone: it answers no more, or what was below it does.
_GONE = frozenset((*client.DEAD, errno.ENODATA, errno.EOPNOTSUPP, errno.ENOENT, errno.ESTALE))


@dataclass(frozen=True, slots=True)
class Batch:
    """What a mount did since it was last asked, by the time at which it was done.

    ``pieces`` is empty when nothing happened. ``lost`` counts those that came faster than they were
    asked for, and were given up since the batch before. ``torn``: so were some that nobody counted,
    if there were any; that comes last, where the mount is gone and its daemon cannot be seen.
    """

    pieces: list[Piece]
    lost: int
    torn: bool = False

    @property
    def events(self) -> list[Event]:
        """The requests one by one."""
        return [event for piece in self.pieces for event in piece.events()]


def read_events(
    target: bytes, pause: Callable[[], float] = lambda: _PAUSE
) -> Generator[Batch, None, None]:
    """Yield what the mount on *target* does from now on, until it is unmounted.

    The first batch (of nothing yet, mostly) says that the mount has begun to tell. Then comes one
    after each *pause* (100 ms if not said), with or without requests, and at once while more is
    waiting; so whoever wants to stop at some time can look at the clock with each. What was done
    until the unmount comes after it. Closing the generator ends it for the daemon, too; a reader
    that is killed it forgets after some seconds.

    Raises UnavailableError before the first batch where the mount does not tell, with the reason,
    and later only for an answer in another version's form; otherwise OSError.
    """
    line = _Line(target)
    pieces, lost, more = line.begin()
    try:
        for number in count(1):
            yield Batch(pieces, lost)
            if not more:
                time.sleep(pause())
            try:
                pieces, lost, more = line.ask(number)
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                yield from line.rest()
                return
    finally:
        line.end()


def blind_spots(target: bytes) -> list[str]:
    """Return what a trace of the mount on *target* cannot tell of, in words.

    Such as "opens of files": what the kernel does by itself, so that the daemon never hears of it.
    Empty for a mount made with ``-o record``, which hears of each open, read and listing (without
    the extension it says that it does not hear who reads). Of names, links and attributes no mount
    is asked again while the kernel remembers them.

    Raises UnavailableError where the mount does not tell, with the reason.
    """
    found: list[str] = read_stats(target).get("unseen", [])
    return found


class _Line:
    """One reader's way to the daemon of the mount on *target*."""

    def __init__(self, target: bytes) -> None:
        self._target = target
        self._name = secrets.token_hex(8).encode()
        self._memory = self._process = -1
        self._room = bytearray()

    def begin(self) -> _Answer:
        """Ask for the first time, which begins the telling. Raises UnavailableError, OSError."""
        where = os.fsdecode(self._target)
        try:
            reply = self._reply(b"0")
        except OSError as error:
            if error.errno in client.DEAD:
                reason = ": the mount's daemon is gone"
            elif error.errno in (errno.EACCES, errno.EPERM):
                reason = " is another user's mount: it tells its owner and root"
            elif error.errno == errno.EBUSY:
                reason = " is traced by as many as it can tell already"
            elif error.errno in _GONE:
                reason = " does not tell: it has noxattrinfo, noxattrs or another version's daemon"
            else:
                raise
            raise UnavailableError(where + reason) from None
        answer = self._understood(reply)
        self._open(reply)
        return answer

    def ask(self, number: int) -> _Answer:
        """Return answer *number*: pieces, how many were lost, whether more is waiting.

        To ask for one again gives the same, so that none is lost with a call that was interrupted.
        """
        reply = self._reply(b"%dm" % number if self._memory >= 0 else b"%d" % number)
        return self._understood(self._content(0) if self._memory >= 0 else reply)

    def rest(self) -> Iterator[Batch]:
        """Yield what was done since the last answer; for a mount that is gone.

        Empty batches come until that is known, and a torn one if it never will be.
        """
        until = time.monotonic() + _LEAVING
        while self._memory >= 0:
            ended = self._wait()
            content = self._content(REST_AT)
            if content and content[REPLY_MORE_AT] == END:
                pieces, lost, _ = self._understood(content)
                yield Batch(pieces, lost)
                return
            if ended or time.monotonic() > until:
                break
            yield Batch([], 0)
        yield Batch([], 0, torn=True)

    def end(self) -> None:
        """Tell the daemon that this reader is done, if it is there."""
        try:
            large_xattr.get(self._target, self._attribute(b"end"))
        except OSError:
            pass  # the mount is gone, and the reader with it
        for fd in (self._memory, self._process):
            if fd >= 0:
                os.close(fd)

    def _attribute(self, what: bytes) -> bytes:
        return b"%s%s.%s" % (_TRACE, self._name, what)

    def _reply(self, what: bytes) -> bytes:
        while True:
            try:
                return large_xattr.get(self._target, self._attribute(what))
            except InterruptedError:
                continue

    def _understood(self, reply: bytes | memoryview) -> _Answer:
        try:
            return decoded(reply)
        except FormError:
            where = os.fsdecode(self._target)
            raise UnavailableError(f"{where}: its daemon is of another version") from None

    def _open(self, reply: bytes) -> None:
        """Open the file that the first *reply* tells of, if it can be seen from here."""
        _, _, fd, pid, _ = REPLY.unpack_from(reply)
        path = f"/proc/{pid}/fd/{fd}"
        try:
            if not os.readlink(path).startswith(f"/memfd:{MEMORY} "):
                return
            self._process = os.pidfd_open(pid)
            memory = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return  # another user's process, or one of another PID namespace
        if os.pread(memory, len(self._name), 0) == self._name:
            self._memory = memory
        else:
            os.close(memory)

    def _content(self, at: int) -> memoryview:
        """Return the reply that is at *at* in the file, empty if there is none yet.

        It is good until the next, which has the same room: fresh room for each would cost more
        than to read it.
        """
        header = os.pread(self._memory, REPLY.size, at)
        if len(header) < REPLY.size:
            return memoryview(b"")
        _, _, size, _, _ = REPLY.unpack(header)
        size += REPLY.size
        if len(self._room) < size:
            self._room = bytearray(size)
        found = memoryview(self._room)[:size]
        return found[: os.preadv(self._memory, [found], at)]

    def _wait(self) -> bool:
        """Wait for a moment; return whether the daemon has ended."""
        return bool(select.select([self._process], [], [], _PAUSE / 10)[0])
