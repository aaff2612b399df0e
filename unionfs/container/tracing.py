"""The requests of a mount as they happen, for ``unionfs trace``: asked of its daemon.

Through attributes of the mount's root, as ``stats`` does (``fuse.told``): every mount has them,
whoever made it, and they need no socket that a container might find.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

from unionfs.container.stats import read_stats
from unionfs.daemon import client
from unionfs.errors import UnavailableError
from unionfs.inspect.event import Event
from unionfs.inspect.records import FormError, decoded
from unionfs.syscalls import large_xattr

_TRACE = b"user.unionfs.trace."  # fuse.told; then the reader's name and which answer it wants
_END = b"end"
_PAUSE = 0.05  # seconds between two questions when nothing happens

# What tells that the mount is gone: it answers no more, or what was below it does.
_GONE = frozenset((*client.DEAD, errno.ENODATA, errno.EOPNOTSUPP, errno.ENOENT, errno.ESTALE))


@dataclass(frozen=True, slots=True)
class Batch:
    """What a mount did since it was last asked, by the time at which it was done.

    ``events`` is empty when nothing happened. ``lost`` counts those that came faster than they were
    asked for, and were given up since the batch before.
    """

    events: list[Event]
    lost: int


def read_events(target: bytes) -> Generator[Batch, None, None]:
    """Yield what the mount on *target* does from now on, until it is unmounted.

    The first batch (of nothing yet, mostly) says that the mount has begun to tell. Then comes one
    about every 50 ms, with or without events, and at once while more is waiting; so whoever wants
    to stop at some time can look at the clock with each. Closing the generator ends it for the
    daemon, too; a reader that is killed it forgets after some seconds.

    Raises UnavailableError before the first batch where the mount does not tell, with the reason,
    and later only for an answer in another version's form; otherwise OSError.
    """
    reader = secrets.token_hex(8).encode()
    events, lost, more = _first(target, reader)
    try:
        for number in count(1):
            yield Batch(events, lost)
            if not more:
                time.sleep(_PAUSE)
            try:
                events, lost, more = _ask(target, reader, number)
            except OSError as error:
                if error.errno in _GONE:
                    return
                raise
    finally:
        _end(target, reader)


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


def _first(target: bytes, reader: bytes) -> tuple[list[Event], int, bool]:
    """Ask for the first time, which begins the telling."""
    where = os.fsdecode(target)
    try:
        return _ask(target, reader, 0)
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
    raise UnavailableError(where + reason)


def _ask(target: bytes, reader: bytes, number: int) -> tuple[list[Event], int, bool]:
    """Return answer *number* for *reader*: events, how many were lost, whether more is waiting.

    To ask for one again gives the same, so that none is lost with a call that was interrupted.
    """
    name = _TRACE + reader + b".%d" % number
    while True:
        try:
            return decoded(large_xattr.get(target, name))
        except InterruptedError:
            continue
        except FormError:
            where = os.fsdecode(target)
            raise UnavailableError(f"{where}: its daemon is of another version") from None


def _end(target: bytes, reader: bytes) -> None:
    try:
        large_xattr.get(target, _TRACE + reader + b"." + _END)
    except OSError:
        pass  # the mount is gone, and the reader with it
