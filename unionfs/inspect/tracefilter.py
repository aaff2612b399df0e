"""Which of a mount's requests somebody wants to see; for ``unionfs trace``."""

from __future__ import annotations

import errno
import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from unionfs.errors import UsageError
from unionfs.inspect.event import is_failure
from unionfs.inspect.piece import Piece, operation_of, rows_where
from unionfs.inspect.statistics import OPERATIONS
from unionfs.inspect.threads import Threads

_COMM = 15  # bytes of a process's name that the kernel keeps (TASK_COMM_LEN less its NUL)
_ANY = "any"
_DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ns|us|ms|s)", re.ASCII)
_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}


class BadFilterError(UsageError):
    """A word does not say which requests are wanted."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What requests must be like: all that is said here holds, and of each one word at least.

    ``errnos`` None means any failure. ``paths`` are matched against both paths of a rename or link.
    ``pids`` are processes, each with all its threads, or single threads.
    ``slower_than_ns`` is what they must exceed, in nanoseconds. Without words all are admitted.
    """

    operations: frozenset[str] = frozenset()
    paths: tuple[re.Pattern[str], ...] = ()
    errnos: frozenset[int] | None = frozenset()
    pids: frozenset[int] = frozenset()
    commands: frozenset[str] = frozenset()
    slower_than_ns: int = -1
    threads: Threads = field(default_factory=Threads)

    def chosen(self, piece: Piece) -> Piece:
        """Return what of *piece* is wanted.

        What costs most is asked last, of those that are left: what a path is. Raises FormError.
        """
        if self.operations:
            names = map(operation_of, piece.opcodes())
            piece = piece.only(rows_where(name in self.operations for name in names))
        if self.errnos is None or self.errnos:
            piece = piece.only(rows_where(map(self._admits_end, piece.errnos(), piece.opcodes())))
        if self.slower_than_ns >= 0:
            piece = piece.only(rows_where(took > self.slower_than_ns for took in piece.took_ns()))
        if self.pids:
            piece = piece.only(rows_where(map(self._admits_process, piece.pids())))
        rows = range(piece.count)
        if self.commands:
            piece = piece.only([row for row in rows if piece.command(row) in self.commands])
            rows = range(piece.count)
        if self.paths:
            piece = piece.only([row for row in rows if self._admits_paths(*piece.paths(row))])
        return piece

    def _admits_process(self, pid: int) -> bool:
        return pid in self.pids or self.threads.process_of(pid) in self.pids

    def _admits_end(self, errno: int, opcode: int) -> bool:
        if self.errnos is None:
            return is_failure(errno, operation_of(opcode))
        return errno in self.errnos

    def _admits_paths(self, path: str, other: str) -> bool:
        return any(
            pattern.match(path) or (other and pattern.match(other)) for pattern in self.paths
        )


def operations_of(words: Iterable[str]) -> frozenset[str]:
    """Return the operations that *words* name, each a name or several with commas.

    Raises BadFilterError naming those that there are.
    """
    names = frozenset(_listed(words))
    known = sorted(OPERATIONS.values())
    for name in sorted(names):
        if name not in known:
            raise BadFilterError(f"no operation is called {name!r}; there are: {', '.join(known)}")
    return names


def errnos_of(words: Iterable[str]) -> frozenset[int] | None:
    """Return the error numbers that *words* name (as operations), None for ``any``.

    Raises BadFilterError.
    """
    names = _listed(words)
    for name in names:
        if name != _ANY and not isinstance(getattr(errno, name, None), int):
            raise BadFilterError(f"{name!r} is no error's name such as ENOENT, nor {_ANY}")
    return None if _ANY in names else frozenset(getattr(errno, name) for name in names)


def patterns_of(globs: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    """Return patterns for whole paths, in which ``*`` and ``?`` stand for ``/`` too (fnmatch(3)).

    Raises BadFilterError for a glob that no path can match.
    """
    found = []
    for glob in globs:
        if not glob.startswith(("/", "*", "?", "[")):
            raise BadFilterError(
                f"{glob!r} matches no path: paths begin with / (or write */{glob})"
            )
        found.append(re.compile(fnmatch.translate(glob)))
    return tuple(found)


def commands_of(names: Iterable[str]) -> frozenset[str]:
    """Return *names* of programs as the kernel keeps them: 15 bytes of each."""
    cut = (name.encode("utf-8", "surrogateescape")[:_COMM] for name in names)
    return frozenset(name.decode("utf-8", "surrogateescape") for name in cut)


def duration_ns(text: str) -> int:
    """Return a duration such as ``1ms`` in nanoseconds. Raises BadFilterError."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise BadFilterError(f"{text!r} is no duration such as 200us, 1ms or 1.5s")
    return round(float(found[1]) * _UNITS[found[2]])


def _listed(words: Iterable[str]) -> Sequence[str]:
    return [name for word in words for name in word.split(",")]
