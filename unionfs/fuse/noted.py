"""Records of requests for who traces them, where the extension does not make them (``tracer``).

``guard`` tells of each handler's call and answer. What no handler is told is not in the records
either: who reads and writes, and how much a listing gave.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from pyfuse3 import EntryAttributes, RequestContext

from unionfs.fuse import guard
from unionfs.fuse.told import TRACE
from unionfs.inspect.records import RECORD
from unionfs.inspect.statistics import OPERATIONS

if TYPE_CHECKING:
    from unionfs.fuse.state import State

_MOST = 2048  # records
_NAME = 255  # bytes that are told of one
_PROCESSES = 16  # whose names are kept open
_WRAP = 0xFFFFFFFF
_NODES = slice(2, 5)  # of a record's fields
_ROOT = 1

_OPCODES = {name: opcode for opcode, name in OPERATIONS.items()}


class About(NamedTuple):
    """What a request is about; the fields are those of a record (``inspect.records``)."""

    node: int = 0
    second: int = 0
    shown: int = 0
    offset: int = 0
    first: bytes = b""
    other: bytes = b""


class Begun(NamedTuple):
    """A request under way: its number, what it is about, who asked, and when it came."""

    opcode: int
    about: About
    pid: int
    command: bytes
    start_ns: int


Handled = Callable[["State", Any], About]


def _of_node(state: State, args: Any) -> About:
    return About(node=args[0], shown=args[0])


def _of_name(state: State, args: Any) -> About:
    return About(node=args[0], first=args[1][:_NAME])


def _of_file(state: State, args: Any) -> About:
    number = state.node_of(args[0]).ino
    return About(node=number, shown=number)


def _of_piece(state: State, args: Any) -> About:
    return _of_file(state, args)._replace(offset=args[1])


def _of_dir(state: State, args: Any) -> About:
    number = state.dir_of(args[0]).ino
    return About(node=number, shown=number)


def _of_listing(state: State, args: Any) -> About:
    return _of_dir(state, args)._replace(offset=args[1])


def _of_link(state: State, args: Any) -> About:
    return About(node=args[0], second=args[1], shown=args[0], other=args[2][:_NAME])


def _of_rename(state: State, args: Any) -> About:
    return About(node=args[0], second=args[2], first=args[1][:_NAME], other=args[3][:_NAME])


def _of_nothing(state: State, args: Any) -> About:
    return About()


_ABOUT: dict[str, Handled] = {
    **dict.fromkeys(("lookup", "create", "mkdir", "mknod", "symlink"), _of_name),
    **dict.fromkeys(("unlink", "rmdir"), _of_name),
    **dict.fromkeys(("flush", "release", "fsync"), _of_file),
    **dict.fromkeys(("read", "write"), _of_piece),
    **dict.fromkeys(("releasedir", "fsyncdir"), _of_dir),
    "readdir": _of_listing,
    "link": _of_link,
    "rename": _of_rename,
    "statfs": _of_nothing,
}


class Noted:
    """Records of the requests of this process's mount (``tracer.Source``)."""

    def __init__(self) -> None:
        self._records: list[bytes] = []
        self._names = bytearray()
        self._names_taken = 0
        self._lost = 0
        self._readers: frozenset[int] = frozenset()
        self._processes: dict[int, int] = {}

    def trace_for(self, pids: bytes) -> None:
        """Make records from now on, but of no asking by *pids* (32-bit numbers); none: no more."""
        self._readers = frozenset(memoryview(pids).cast("I"))
        guard.witness = self if pids else None
        if not pids:
            self.trace_take()
            while self._processes:
                os.close(self._processes.popitem()[1])

    def trace_waiting(self) -> int:
        """Return how many records there are."""
        return len(self._records)

    def trace_mentions(self, node: int) -> bool:
        """Return whether one of them is about *node* (its number)."""
        return any(node in RECORD.unpack(record)[_NODES] for record in self._records)

    def trace_take(self) -> tuple[bytes, bytes, int]:
        """Return the records, which are then gone, the names in them, and how many were lost."""
        found = b"".join(self._records), bytes(self._names), self._lost
        self._names_taken += len(self._names)
        self._records.clear()
        self._names.clear()
        self._lost = 0
        return found

    def begin(self, name: str, args: tuple[Any, ...]) -> Begun | None:
        """Note the call of the handler *name*, a method; None if there is to be no record of it."""
        try:
            return self._begun(name, args)
        except Exception as error:
            guard.failure(error, "trace")
            return None

    def _begun(self, name: str, args: tuple[Any, ...]) -> Begun | None:
        state, *rest = args
        ctx = rest[-1] if rest and isinstance(rest[-1], RequestContext) else None
        pid = ctx.pid if ctx is not None else 0
        if name == "getxattr" and rest[1].startswith(TRACE):
            return None
        if name == "getattr" and rest[0] == _ROOT and pid in self._readers:
            return None
        about = _ABOUT.get(name, _of_node)(state, rest)
        return Begun(_OPCODES[name], about, pid, self._command(pid), time.monotonic_ns())

    def end(self, begun: Begun, answer: Any, error: int) -> None:
        """Make the record of a call that returned *answer*, or failed with the errno *error*."""
        try:
            self._append(begun, answer, error)
        except Exception as unforeseen:
            guard.failure(unforeseen, "trace")

    def _append(self, begun: Begun, answer: Any, error: int) -> None:
        took = time.monotonic_ns() - begun.start_ns
        if len(self._records) == _MOST:
            self._lost += 1
            return
        about = begun.about
        shown = about.shown
        entry = answer[1] if isinstance(answer, tuple) else answer
        if isinstance(entry, EntryAttributes) and not shown:
            shown = entry.st_ino
            error = 0 if shown else errno.ENOENT
        size = 0 if error else _size(begun.opcode, answer)
        self._records.append(
            RECORD.pack(
                begun.start_ns, took, about.node, about.second, shown, size, about.offset,
                self._names_taken + len(self._names) & _WRAP, begun.pid, error, begun.opcode, 0,
                len(about.first), len(about.other), begun.command,
            )
        )  # fmt: skip
        self._names += about.first + about.other

    def _command(self, pid: int) -> bytes:
        """Return the name of the process *pid*, of which the descriptor is kept."""
        for _ in range(2):
            fd = self._processes.get(pid) or self._open(pid)
            if fd is None:
                return b""
            try:
                return os.pread(fd, 16, 0)[:-1]
            except ProcessLookupError:  # another one had this number before
                os.close(self._processes.pop(pid))
        return b""

    def _open(self, pid: int) -> int | None:
        if not pid:
            return None
        if len(self._processes) == _PROCESSES:
            os.close(self._processes.pop(next(iter(self._processes))))
        try:
            fd = os.open(f"/proc/{pid}/comm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        self._processes[pid] = fd
        return fd


def _size(opcode: int, answer: Any) -> int:
    """Return the bytes that *answer* has, or says that it took."""
    if isinstance(answer, bytes):
        return len(answer)
    if isinstance(answer, list):
        return sum(len(name) + 1 for name in answer)
    return int(answer) if opcode == _OPCODES["write"] else 0
