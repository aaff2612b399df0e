"""Where ``unionfs trace`` puts the requests that it is told of: lines, documents, sums, a file."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from errno import errorcode
from functools import lru_cache
from typing import Protocol

from unionfs.cli import output
from unionfs.cli.context import note
from unionfs.errors import ConflictError
from unionfs.inspect.event import Event
from unionfs.inspect.piece import Piece
from unionfs.inspect.recording import End, Header, end_mark, header_line
from unionfs.inspect.tracesummary import Sum, Summary

_SIZED = frozenset(("read", "write", "copy_file_range"))  # for them 0 bytes is an answer too
_WIDEST = 16  # that a column grows to; what is longer pushes the rest of its line
_HEADERS = ("TIME", "PROCESS", "REQUEST", "LAYER", "RESULT", "TOOK", "PATH")
_SUMMARY = ("% TIME", "TOTAL", "MEAN", "LONGEST", "CALLS", "ERRORS", "REQUEST")


class FeedbackError(ConflictError):
    """What is told of a mount would be written to that mount, and so be told of."""


class Sink(Protocol):
    """What takes requests."""

    def take(self, pieces: Sequence[Piece]) -> None:
        """Take *pieces*, which came since the last call; often none."""

    def end(self, lost: int, *, torn: bool) -> None:
        """Take the end: no more will come, and *lost* requests never did; *torn*: or more."""


class Lines:
    """One line a request, for people: in columns that grow with what they hold, the path last."""

    def __init__(self) -> None:
        self._widths = [12, 10, 8, 5, 6, 7]
        self._begun = False

    def take(self, pieces: Sequence[Piece]) -> None:
        """Print the requests of *pieces* at once; before the first, what the columns are."""
        for piece in pieces:
            self.show(piece.events())
        if not self._begun:
            self.show(())

    def show(self, events: Iterable[Event]) -> None:
        """Print *events*, as ``take`` does."""
        rows = [_cells(event) for event in events]
        if not self._begun:
            rows.insert(0, _HEADERS)
            self._begun = True
        if rows:
            print("\n".join(map(self._line, rows)), flush=True)

    def end(self, lost: int, *, torn: bool) -> None:
        """Print nothing."""

    def _line(self, cells: Sequence[str]) -> str:
        *short, path = cells
        self._widths = [
            max(was, min(len(cell), _WIDEST)) for was, cell in zip(self._widths, short, strict=True)
        ]
        padded = (cell.ljust(width) for cell, width in zip(short, self._widths, strict=True))
        return f"{' '.join(padded)} {path}".rstrip()


def _cells(event: Event) -> tuple[str, ...]:
    path = output.plain(os.fsencode(event.path))
    other = f" -> {output.plain(os.fsencode(event.other))}" if event.other else ""
    return (
        _clock(event.start_ns),
        _process(event),
        event.operation,
        event.layer or "-",
        _result(event),
        output.took(event.took_ns),
        (path + other) or "-",
    )


def _clock(ns: int) -> str:
    """Return the time of day here, to the millisecond."""
    seconds, rest = divmod(ns, 10**9)
    return f"{_second(seconds)}.{rest // 10**6:03}"


@lru_cache(maxsize=2)  # they come in order, thousands a second
def _second(seconds: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _process(event: Event) -> str:
    if not event.pid:
        return "-"
    return f"{output.shown(event.command) or '?'}[{event.pid}]"


def _result(event: Event) -> str:
    if event.errno:
        return errorcode.get(event.errno, str(event.errno))
    return output.size(event.size) if event.size or event.operation in _SIZED else "ok"


class Documents:
    """One JSON document a line and a request."""

    def take(self, pieces: Sequence[Piece]) -> None:
        """Print the requests of *pieces* at once."""
        for piece in pieces:
            self.show(piece.events())

    def show(self, events: Iterable[Event]) -> None:
        """Print *events*, as ``take`` does."""
        lines = [json.dumps(event.document()) for event in events]
        if lines:
            print("\n".join(lines), flush=True)

    def end(self, lost: int, *, torn: bool) -> None:
        """Print nothing."""


class Added:
    """What the requests of the mount on *target* add up to, printed at the end."""

    def __init__(self, target: bytes, *, as_json: bool) -> None:
        self._target = target
        self._json = as_json
        self._summary = Summary()
        self._began = time.monotonic()

    def take(self, pieces: Sequence[Piece]) -> None:
        """Add the requests of *pieces*."""
        for piece in pieces:
            self._summary.add(piece)

    def end(self, lost: int, *, torn: bool) -> None:
        """Print the table, or the document."""
        seconds = time.monotonic() - self._began
        summary = self._summary
        if self._json:
            head = {"target": output.text_of(self._target), "seconds": round(seconds, 3)}
            head |= {"lost": lost, "torn": torn}
            output.print_json(head | {"requests": summary.document()})
            return
        rows = [self._row(name, one) for name, one in summary.ordered()]
        output.print_table(_SUMMARY, [*rows, self._row("all", summary.all())])

    def _row(self, name: str, one: Sum) -> tuple[str, ...]:
        return (
            f"{self._summary.share(one):.1f}",
            output.took(one.total_ns),
            output.took(one.mean_ns),
            output.took(one.longest_ns),
            f"{one.count:,}",
            f"{one.errors:,}",
            name,
        )


class Recorder:
    """A recording in the file *path*, begun with *header*.

    The file is empty until the mount has begun to tell, so that others can wait for that.
    """

    def __init__(self, path: str, header: Header, *, quiet: bool) -> None:
        """Make the file, or empty the one that is there. Raises OSError."""
        self._path = path
        self._quiet = quiet
        self._count = 0
        self._header = header_line(header)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)  # names may be nobody else's business

    def take(self, pieces: Sequence[Piece]) -> None:
        """Write *pieces* as they are. Raises OSError naming the file."""
        data = b"".join([self._header, *(piece.packed() for piece in pieces)])
        if data:
            self._write(data)
        self._header = b""
        self._count += sum(piece.count for piece in pieces)

    def end(self, lost: int, *, torn: bool) -> None:
        """Write how it ended, unless that is not known, and say how many requests there are."""
        if not torn:
            self._write(end_mark(End(time.time_ns(), lost)))
        if not self._quiet:
            note(f"{output.counted(self._count, 'request')} recorded in {self._path}")

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            error.filename = self._path
            raise


def refuse_inside(path: str, target: bytes) -> None:
    """Raise FeedbackError if the file *path*, that is or will be, is on the mount on *target*."""
    try:
        device = os.stat(path).st_dev
    except FileNotFoundError:
        device = os.stat(os.path.dirname(path) or ".").st_dev
    if device == os.stat(target).st_dev:
        raise FeedbackError(f"{path} is on the mount that is traced: record elsewhere")


def refuse_output_inside(target: bytes) -> None:
    """Raise FeedbackError if standard output is a file of the mount on *target*."""
    if sys.stdout is None:
        return
    if os.fstat(sys.stdout.fileno()).st_dev == os.stat(target).st_dev:
        raise FeedbackError("standard output is on the mount that is traced: write elsewhere")
