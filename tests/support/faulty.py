"""The mount program with a fault in it: ``python -m tests.support.faulty WORDS…`` as ``unionfs``.

While the file named by ``UNIONFS_TEST_FAULT`` holds the name of an operation, its request handler
meets an exception nobody foresaw, in the middle of its work: when it looks up its inode, its open
file or the disk. With an errno behind the name it meets that one there.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable
from contextvars import ContextVar

FAULT = os.environ.get("UNIONFS_TEST_FAULT", "")
CARRY = "unionfs/fuse/_carry.c"
_current: ContextVar[str] = ContextVar("_current", default="")


class UnforeseenError(Exception):
    """Nobody catches this by name."""


def main() -> None:
    from unionfs.cli import main as program
    from unionfs.fuse import data, files, inodes, metadata, operations

    for name, handler in handlers(operations.Operations).items():
        setattr(operations.Operations, name, _announcing(name, handler))
    for name, method in CARRIED.items():
        handler = getattr(operations.Operations, method)
        setattr(operations.Operations, method, _announcing(name, handler))
    inodes.Inodes.__getitem__ = _failing(inodes.Inodes.__getitem__)
    inodes.Inodes.forget = _failing(inodes.Inodes.forget)
    files.Files.close = _failing(files.Files.close)
    files.Files.data = _failing(files.Files.data)
    data.FUSEError = _failing(data.FUSEError)  # flush() does nothing else
    metadata.os.fstatvfs = _failing(os.fstatvfs)
    _fail_by_handle(files.Files)
    sys.argv[0] = "unionfs"
    sys.exit(program.entry())


# What the extension brings as a GETXATTR, and who answers it.
CARRIED = {
    "fallocate": "_fallocate",
    "lseek": "_lseek",
    "copy_file_range": "_copy_range",
    "ioctl": "_ioctl",
}


def handlers(kind: type) -> dict[str, Callable]:
    """Return the request handlers of *kind*: what pyfuse3 names, and what the mount implements."""
    import pyfuse3

    found = {}
    for name, none in vars(pyfuse3.Operations).items():
        handler = getattr(kind, name)
        if inspect.iscoroutinefunction(handler) and handler is not none:
            found[name] = handler
    return found


def carried(sources: str) -> set[str]:
    """Return the operations that the extension, with its *sources*, changes for pyfuse3."""
    with open(os.path.join(sources, CARRY)) as file:
        return {name.lower() for name in re.findall(r"case (?:FUSE_)?(\w+):", file.read())}


def _announcing(name: str, handler: Callable) -> Callable:
    from unionfs.fuse import native

    async def run(*args, **kwargs):
        nameless = name == "create" and native.asks_tmpfile()
        token = _current.set("tmpfile" if nameless else name)
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
        name, *number = file.read().split() or [""]
    if name == current and number:
        raise OSError(int(number[0]), os.strerror(int(number[0])))
    if name == current:
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
