"""The one place where an exception becomes an errno.

In pyfuse3 anything but FUSEError that leaves a handler ends the main loop, and with it the root
filesystem of a container. So nothing else does: an OSError becomes its errno, anything unforeseen
EIO, logged with its traceback and counted.
"""

from __future__ import annotations

import errno
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from pyfuse3 import FUSEError

from unionfs.fuse import loop, native
from unionfs.inspect.statistics import Operation

if TYPE_CHECKING:
    from unionfs.fuse.noted import Noted

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

# From here on numbers are the kernel's own (linux/errno.h); ENOTSUPP leaks out of some filesystems.
# /dev/fuse refuses an answer with one (fuse_dev_do_write()), and the caller would wait for ever.
_KERNELS_OWN = 512

# What requests there were, by handler, where the extension does not count them.
operations: dict[str, Operation] = {}

witness: Noted | None = None  # who is told of each of them, while somebody traces

unforeseen = 0  # exceptions that became EIO in this process; shown by the statistics


def failure(error: Exception, operation: str) -> FUSEError:
    """Return the FUSEError that tells the kernel of *error*, logging what is not an OSError."""
    if isinstance(error, FUSEError):
        return error
    if isinstance(error, OSError) and error.errno:
        return FUSEError(error.errno if error.errno < _KERNELS_OWN else errno.EIO)
    global unforeseen
    unforeseen += 1
    if isinstance(error, MemoryError):
        log.error("out of memory in %s", operation)
        return FUSEError(errno.ENOMEM)
    log.error("unforeseen error in %s", operation, exc_info=error)
    return FUSEError(errno.EIO)


Handler = Callable[P, Coroutine[Any, Any, R]]


def _counted(name: str, run: Handler[P, R]) -> Handler[P, R]:
    """Return the request handler *run*, counted and timed unless the extension does that."""
    if native.hooks is not None or name.startswith("_"):
        return run

    async def timed(*args: P.args, **kwargs: P.kwargs) -> R:
        operation = operations.setdefault(name, Operation())
        begun = witness.begin(name, args) if witness is not None else None
        since = time.perf_counter_ns()
        answer, error = None, 0
        try:
            answer = await run(*args, **kwargs)
            return answer
        except FUSEError as failed:
            operation.errors += 1
            error = failed.errno
            raise
        finally:
            operation.note(time.perf_counter_ns() - since)
            if begun is not None and witness is not None:
                witness.end(begun, answer, error)

    return timed


def answers(
    handler: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Make a request handler of a plain method: atomic, and nothing but FUSEError leaves it."""
    name = handler.__name__

    async def run(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return handler(self, *args, **kwargs)
        except FUSEError:
            raise  # an answer, and the usual one to a question for an absent attribute
        except Exception as error:
            raise failure(error, name) from None

    wrapped = functools.wraps(handler)(_counted(name, run))
    return cast("Callable[Concatenate[S, P], Coroutine[Any, Any, R]]", wrapped)


def answers_later(
    handler: Callable[Concatenate[S, P], Awaitable[R]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Make a request handler of a method that awaits, and lets others run meanwhile."""
    name = handler.__name__

    async def run(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(self, *args, **kwargs)
        except FUSEError:
            raise  # an answer, and the usual one to a question for an absent attribute
        except Exception as error:
            raise failure(error, name) from None

    wrapped = functools.wraps(handler)(_counted(name, run))
    return cast("Callable[Concatenate[S, P], Coroutine[Any, Any, R]]", wrapped)


def again_when_full(
    handler: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Make a request handler one that is called again where the disk was full (``with_room``).

    Of a method that does all of what was asked or nothing that shows, and asks the extension
    nothing about the request read last: that is another one by then.
    """

    async def run(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        return await loop.with_room(lambda: handler(self, *args, **kwargs))

    wrapped = functools.wraps(handler)(run)
    return cast("Callable[Concatenate[S, P], Coroutine[Any, Any, R]]", wrapped)


def directly(
    handler: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[S, P], R | int | None]:
    """Make a method one that ``_direct.c`` asks: instead of raising it returns an errno.

    Where the disk is full, None: what gives room may be in the queue (``loop.with_room``), and only
    the long way can wait for that.
    """
    name = handler.__name__

    def run(self: S, *args: P.args, **kwargs: P.kwargs) -> R | int | None:
        try:
            return handler(self, *args, **kwargs)
        except Exception as error:
            number = failure(error, name).errno
            return None if number in loop.FULL else number

    wrapped = functools.wraps(handler)(run)
    return cast("Callable[Concatenate[S, P], R | int | None]", wrapped)
