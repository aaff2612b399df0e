"""The mount program with a fault in it: ``python -m tests.support.faulty WORDS…`` as ``unionfs``.

While the file named by ``UNIONFS_TEST_FAULT`` holds the name of a request handler, that handler
meets an exception nobody foresaw, in the middle of its work: when it looks up its inode, its open
file or the disk.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar

FAULT = os.environ["UNIONFS_TEST_FAULT"]
_current: ContextVar[str] = ContextVar("_current", default="")


class UnforeseenError(Exception):
    """Nobody catches this by name."""


def main() -> None:
    from unionfs.cli import main as program
    from unionfs.fuse import files, inodes, metadata, operations

    for name, handler in _handlers(operations.Operations):
        setattr(operations.Operations, name, _announcing(name, handler))
    inodes.Inodes.__getitem__ = _failing(inodes.Inodes.__getitem__)
    inodes.Inodes.forget = _failing(inodes.Inodes.forget)
    files.Files.close = _failing(files.Files.close)
    metadata.os.fstatvfs = _failing(os.fstatvfs)
    _fail_by_handle(files.Files)
    sys.argv[0] = "unionfs"
    sys.exit(program.entry())


def _handlers(kind: type) -> list[tuple[str, Callable]]:
    """Return the request handlers of *kind*: what pyfuse3 names, and what the mount implements."""
    import pyfuse3

    named = [name for name in vars(pyfuse3.Operations) if not name.startswith("_")]
    found = [(name, getattr(kind, name)) for name in named]
    return [(name, one) for name, one in found if inspect.iscoroutinefunction(one)]


def _announcing(name: str, handler: Callable) -> Callable:
    async def run(*args, **kwargs):
        token = _current.set(name)
        try:
            return await handler(*args, **kwargs)
        finally:
            _current.reset(token)

    return run


def _failing(function: Callable) -> Callable:
    def run(*args, **kwargs):
        _fault()
        return function(*args, **kwargs)

    return run


def _fault() -> None:
    current = _current.get()
    if not current:
        return
    with open(FAULT) as file:
        if file.read() == current:
            raise UnforeseenError(current)


def _fail_by_handle(kind: type) -> None:
    """Make looking up a handle fail: the tables are dictionaries made by ``__init__``."""

    class Table(dict):
        def __getitem__(self, key):
            _fault()
            return dict.__getitem__(self, key)

        def __delitem__(self, key) -> None:
            _fault()
            dict.__delitem__(self, key)

    original = kind.__init__

    def init(self, *args, **kwargs) -> None:
        original(self, *args, **kwargs)
        for name, value in vars(self).items():
            if type(value) is dict:
                setattr(self, name, Table(value))

    kind.__init__ = init


if __name__ == "__main__":
    main()
