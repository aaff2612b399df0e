"""The mount program with a fault in it: ``python -m tests.support.faulty WORDS…`` as ``unionfs``.

While the file named by ``UNIONFS_TEST_FAULT`` holds the name of an operation, that operation meets
an exception in the middle of its work: when it looks up its inode, its open file or the disk. It is
one that nobody foresaw, or OSError with the errno that stands behind the name.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path

from unionfs.inspect.statistics import OPERATIONS

FAULT = "UNIONFS_TEST_FAULT"
_current: ContextVar[str] = ContextVar("_current", default="")


class UnforeseenError(Exception):
    """Nobody catches this by name."""


def main() -> None:
    from unionfs.cli import main as program
    from unionfs.fuse import data, files, inodes, metadata, operations

    for name, handler in handlers(operations.Operations):
        setattr(operations.Operations, name, _announcing(name, handler))
    operations.Operations.carried = _announcing_carried(operations.Operations.carried)
    inodes.Inodes.__getitem__ = _failing(inodes.Inodes.__getitem__)
    inodes.Inodes.forget = _failing(inodes.Inodes.forget)
    files.Files.close = _failing(files.Files.close)
    files.Files.data = _failing(files.Files.data)
    data.FUSEError = _failing(data.FUSEError)  # all that flush does is to raise it
    metadata.os.fstatvfs = _failing(os.fstatvfs)
    _fail_by_handle(files.Files)
    sys.argv[0] = "unionfs"
    sys.exit(program.entry())


def handlers(kind: type) -> list[tuple[str, Callable]]:
    """Return the request handlers of *kind*: what pyfuse3 names, and the mount implements."""
    import pyfuse3

    found = []
    for name, theirs in vars(pyfuse3.Operations).items():
        ours = getattr(kind, name)
        if not name.startswith("_") and inspect.iscoroutinefunction(ours) and ours != theirs:
            found.append((name, ours))
    return found


def carried() -> set[str]:
    """Return the names of the requests that the extension brings in others' form, or parts of."""
    from unionfs.fuse import native

    source = Path(native.__file__).with_name("_carry.c").read_text()
    (switch,) = re.findall(r"switch \(head->opcode\) \{\n(.*?)\n\t\}\n", source, re.DOTALL)
    return {name.lower() for name in re.findall(r"\bcase (?:FUSE_)?(\w+):", switch)}


def _announcing(name: str, handler: Callable) -> Callable:
    from unionfs.fuse import native

    async def run(*args, **kwargs):
        token = _current.set("tmpfile" if name == "create" and native.asks_tmpfile() else name)
        try:
            return await handler(*args, **kwargs)
        finally:
            _current.reset(token)

    return run


def _announcing_carried(handler: Callable) -> Callable:
    async def run(self, node, opcode, body, ctx):
        token = _current.set(OPERATIONS[opcode])
        try:
            return await handler(self, node, opcode, body, ctx)
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
    with open(os.environ[FAULT]) as file:
        name, _, number = file.read().partition(" ")
    if name == current:
        raise OSError(int(number), os.strerror(int(number))) if number else UnforeseenError(current)


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
