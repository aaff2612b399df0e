"""The one message that a starting daemon sends over the readiness pipe.

Either ``READY`` or a failure: the branch of the exception tree and the message, NUL between them.
No message at all means that the daemon died.
"""

from __future__ import annotations

import os

from unionfs import errors
from unionfs.errors import UnionfsError, os_error_line

READY = b"ready"
_LIMIT = 4096  # a write of up to PIPE_BUF bytes arrives whole (pipe(7))


def send(fd: int, message: bytes) -> None:
    """Send *message* and close *fd*. Raises BrokenPipeError if nobody waits for it any more."""
    try:
        os.write(fd, message)
    finally:
        os.close(fd)


def receive(fd: int) -> bytes:
    """Return the message that comes through *fd*; empty if the sender died without one."""
    message = b""
    while chunk := os.read(fd, _LIMIT):
        message += chunk
    return message


def pack(error: Exception, beside: str = "") -> bytes:
    """Return the message that tells *error*, and *beside* it what others said of the failure."""
    if isinstance(error, UnionfsError):
        branch, text = _branch(type(error)), str(error)
    elif isinstance(error, OSError):
        branch, text = "UnionfsError", os_error_line(error)
    else:
        branch, text = "UnionfsError", f"internal error: {type(error).__name__}: {error}"
    if beside:
        text = f"{text}: {beside}"
    data = branch.encode() + b"\0" + text.encode(errors="surrogateescape")
    return data[:_LIMIT]


def unpack(message: bytes) -> UnionfsError:
    """Return the error that *message* (not ``READY``) tells, as its branch's class."""
    branch, _, text = message.partition(b"\0")
    kind: type[UnionfsError] = getattr(errors, branch.decode())
    return kind(text.decode(errors="surrogateescape"))


def _branch(kind: type[UnionfsError]) -> str:
    """Return the name of the nearest ancestor that stands in ``errors``."""
    names = [c.__name__ for c in kind.__mro__]
    return next(name for name in names if hasattr(errors, name))
