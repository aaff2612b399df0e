"""The exception tree, with the exit status that each branch ends a command with.

    UnionfsError (1)            something the user can read about in one line
    ├── UsageError (2)          the words on the command line are wrong
    ├── NotFoundError (1)       no such image, layer, container, directory
    ├── ConflictError (1)       in use, already there, already mounted
    ├── CorruptError (1)        data that does not match its digest or its format
    ├── RefusedError (1)        hostile or unsupported input that we will not touch
    └── UnavailableError (1)    the machine lacks something (FUSE, a program, a privilege)

Leaf errors are defined beside the code that raises them and derive from one of these. The message
is complete: it says what was wrong and with which input, and needs no traceback beside it.
"""

from __future__ import annotations

import os


class UnionfsError(Exception):
    """A failure with a message for people; ``exit_status`` is the command's exit status."""

    exit_status = 1


class UsageError(UnionfsError):
    """The command line does not say anything that can be done."""

    exit_status = 2


class NotFoundError(UnionfsError):
    """What the command names does not exist."""


class ConflictError(UnionfsError):
    """What the command wants cannot be done while something else stands as it does."""


class CorruptError(UnionfsError):
    """Stored or given data does not match its digest, its size or its format."""


class RefusedError(UnionfsError):
    """The input is hostile or uses something that is not supported."""


class UnavailableError(UnionfsError):
    """The machine lacks what is needed: a device, a program, a privilege."""


def os_error_line(error: OSError) -> str:
    """Return *error* in one line for people: the file names it is about, then the reason."""
    names = [n for n in (error.filename, error.filename2) if n is not None]
    shown = " -> ".join(os.fsdecode(n) if isinstance(n, bytes) else str(n) for n in names)
    reason = error.strerror or str(error) or type(error).__name__
    return f"{shown}: {reason}" if shown else reason
