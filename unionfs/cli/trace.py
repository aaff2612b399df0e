"""``unionfs trace``: a mount's requests as they come, added up, or recorded for later."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING

from unionfs.cli import output, tracereport
from unionfs.cli.context import Context, ending_cleanly, note
from unionfs.cli.tree import Branch, Parser
from unionfs.errors import NotFoundError, UnavailableError, UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from unionfs.cli.tracesinks import Sink
    from unionfs.container.tracing import Batch
    from unionfs.inspect.piece import Piece
    from unionfs.inspect.tracefilter import Filter
    from unionfs.store.store import Store

_REPORT = "report"
_DAY = 86400.0
_REST = 0.3  # seconds for what is waiting when a trace is to end
_SOON = 0.1  # seconds between two questions for who looks on
_SELDOM = 0.25  # the same for sums and recordings; the mount keeps more than comes meanwhile
_SHORTLY = 0.02  # the same when it is to end
_NICE = 10  # a tenth of what another program gets of a processor that both want
_USAGE = """\
unionfs trace [OPTION…] CONTAINER|TARGET
       unionfs trace report FILE [--requests] [--json]"""
_WHAT = """\
Show the requests that a mount answers, as they come, until it is unmounted or you interrupt: who
asked for what, which layer showed it, what came of it, and how long it took. The second form tells
what a recording (--record) says of the image: what was really read of each layer. Without FILE,
"report" is a container's name like any other."""


def register(commands: Branch) -> None:
    """Add the command of this module."""
    parser = commands.command("trace", ending_cleanly(_trace), "show a mount's requests, live")
    parser.usage, parser.description = _USAGE, _WHAT
    parser.add_argument("subject", metavar="CONTAINER|TARGET")
    parser.add_argument("file", metavar="FILE", nargs="?", help="a recording, after report")
    _add_forms(parser)
    _add_filters(parser)
    _add_ends(parser)


def _add_forms(parser: Parser) -> None:
    group = parser.add_argument_group(
        "what to do with them", "(with --json: one document a line, as they come)"
    )
    group.add_argument(
        "--summary",
        action="store_true",
        help="add them up by operation, and print that at the end (--json: one document)",
    )
    group.add_argument(
        "--record", metavar="FILE", help="write them to FILE, in place of what is there"
    )
    group.add_argument(
        "--requests", action="store_true", help="with report: show those of FILE, one by one"
    )


def _add_filters(parser: Parser) -> None:
    group = parser.add_argument_group(
        "which of them", "(of several options all must hold, of one that is repeated, any)"
    )
    group.add_argument(
        "--operation", metavar="NAME[,NAME…]", action="append", default=[],
        help="named as in unionfs stats: lookup, read, rename2, …",
    )  # fmt: skip
    group.add_argument(
        "--path", metavar="GLOB", action="append", default=[],
        help="the whole path, or the other one of a rename or link; * matches / too",
    )  # fmt: skip
    group.add_argument(
        "--errno", metavar="NAME[,NAME…]", action="append", default=[],
        help="failed with it: ENOENT, …; any: failed",
    )  # fmt: skip
    group.add_argument(
        "--pid", metavar="PID", action="append", type=_positive, default=[],
        help="the process that asked, by any of its threads, or a thread",
    )  # fmt: skip
    group.add_argument(
        "--command", metavar="NAME", action="append", default=[],
        help="the name of the program that asked",
    )  # fmt: skip
    group.add_argument("--slower-than", metavar="DURATION", help="such as 200us, 1ms or 1.5s")


def _add_ends(parser: Parser) -> None:
    group = parser.add_argument_group("when to end")
    group.add_argument("--for", metavar="SECONDS", type=float, dest="seconds", help="after so long")
    group.add_argument("--count", metavar="N", type=_positive, help="after so many")


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise UsageError(f"{text!r} is not a number from 1")
    return int(text)


def _trace(context: Context) -> int:
    args = context.args
    if args.file is not None:
        if args.subject != _REPORT:
            raise UsageError(f"trace takes one container or target, and no {args.file}")
        return _report(context)
    if args.requests:
        raise UsageError("--requests is for trace report")
    if args.seconds is not None and not 0 < args.seconds <= _DAY:
        raise UsageError(f"--for takes up to {_DAY:.0f} seconds")
    if args.record is not None and context.json and not args.summary:
        raise UsageError("--record prints nothing; --json goes with it beside --summary only")
    wanted = _filter(args)
    with ExitStack() as stack:
        target, unseen, sinks = _begin(context, stack)
        _tell_unseen(context, unseen)
        return _follow(context, target, wanted, sinks)


def _report(context: Context) -> int:
    if _given(context.args):
        raise UsageError("trace report takes no options but --requests and --json")
    if context.args.requests:
        return tracereport.requests(context, context.args.file)
    return tracereport.report(context, context.args.file)


def _given(args: Namespace) -> bool:
    """Return whether any option of a live trace was given."""
    values = (args.seconds, args.count, args.record)
    return bool(args.summary or _chosen(args)) or any(value is not None for value in values)


def _chosen(args: Namespace) -> Sequence[str]:
    """Return the options that choose among requests, as they may be written."""
    lists = ("operation", "path", "errno", "pid", "command")
    words = [f"--{name} {value}" for name in lists for value in getattr(args, name)]
    return words if args.slower_than is None else [*words, f"--slower-than {args.slower_than}"]


def _filter(args: Namespace) -> Filter:
    from unionfs.inspect import tracefilter

    return tracefilter.Filter(
        tracefilter.operations_of(args.operation),
        tracefilter.patterns_of(args.path),
        tracefilter.errnos_of(args.errno),
        frozenset(args.pid),
        tracefilter.commands_of(args.command),
        -1 if args.slower_than is None else tracefilter.duration_ns(args.slower_than),
    )


def _begin(context: Context, stack: ExitStack) -> tuple[bytes, Sequence[str], Sequence[Sink]]:
    """Return the mount, what it cannot tell of, and where its requests go."""
    from unionfs.container.tracing import blind_spots

    with ExitStack() as reading:
        store = reading.enter_context(context.store()) if context.has_store() else None
        target = _find(store, context.args.subject)
        unseen = blind_spots(target)
        return target, unseen, _sinks(context, store, target, unseen, stack)


def _find(store: Store | None, subject: str) -> bytes:
    from unionfs.container.stats import find_mount

    try:
        return find_mount(store, subject)
    except NotFoundError as error:
        if subject == _REPORT:
            raise NotFoundError(f"{error} (trace report wants the FILE of a recording)") from None
        raise


def _sinks(
    context: Context, store: Store | None, target: bytes, unseen: Sequence[str], stack: ExitStack
) -> Sequence[Sink]:
    from unionfs.cli import tracesinks

    args, sinks = context.args, list[tracesinks.Sink]()
    if args.record is not None:
        from unionfs.container.recording import header

        tracesinks.refuse_inside(args.record, target)
        recorder = tracesinks.Recorder(
            args.record, header(store, target, unseen, _chosen(args)), quiet=context.quiet
        )
        sinks.append(stack.enter_context(closing(recorder)))
    if args.summary:
        sinks.append(tracesinks.Added(target, as_json=context.json))
    elif args.record is None:
        tracesinks.refuse_output_inside(target)
        sinks.append(tracesinks.Documents() if context.json else tracesinks.Lines())
    return sinks


def _tell_unseen(context: Context, unseen: Sequence[str]) -> None:
    if unseen and not context.quiet:
        more = (
            " (a mount with -o record shows more)" if tracereport.more_with_record(unseen) else ""
        )
        note(f"not seen here: {', '.join(unseen)}{more}")


def _follow(context: Context, target: bytes, wanted: Filter, sinks: Sequence[Sink]) -> int:
    """Pass on what is wanted until something ends it; return the exit status.

    Raises UnavailableError if the mount's daemon dies.
    """
    from unionfs.container.tracing import read_events
    from unionfs.syscalls.interrupt import ending_asked

    args = context.args
    with ending_asked() as ending, ExitStack() as stack:
        seldom = args.summary or args.record is not None
        course = _Course(args.seconds, args.count, ending, _SELDOM if seldom else _SOON)
        batches = stack.enter_context(closing(read_events(target, course.pause)))
        _give_way()
        for batch in batches:
            pieces = course.chosen(batch, wanted)
            for sink in sinks:
                sink.take(pieces)
            if course.is_over(batch):
                break
        else:
            course.gone = True
        for sink in sinks:
            sink.end(course.lost, torn=course.torn)
        if course.lost:
            lost = output.counted(course.lost, "request")
            note(f"{lost} lost: they came faster than they were taken")
        if course.gone:
            _tell_gone(context, target)
        if course.torn:
            note("what was done last may be missing: the daemon could not show it to you")
        return ending() or 0


def _give_way() -> None:
    """Take the processor from nobody who is traced, nor from the mount, as far as that goes."""
    with suppress(OSError):  # where we may not, it is as it was
        os.nice(_NICE)
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _tell_gone(context: Context, target: bytes) -> None:
    """Say that the mount on *target* ended. Raises UnavailableError if its daemon was killed."""
    from unionfs.daemon import client

    if client.stale(target):
        raise UnavailableError(f"{output.text_of(target)}: the mount's daemon is gone")
    if not context.quiet:
        note(f"{output.plain(target)} is unmounted")


class _Course:
    """How far a trace came, and what ends it: *seconds*, *count* requests, or a signal (*ending*).

    When it is to end by time or signal, what is waiting still comes: what was done before is told.
    The mount is asked every *seldom* seconds.
    """

    def __init__(
        self,
        seconds: float | None,
        count: int | None,
        ending: Callable[[], int | None],
        seldom: float,
    ) -> None:
        self.lost = 0
        self.torn = False  # what was done last is not known
        self.gone = False  # the mount
        self._left = count
        self._until = math.inf if seconds is None else time.monotonic() + seconds
        self._ending = ending
        self._seldom = seldom
        self._rest_until = math.inf

    def pause(self) -> float:
        """Return for how many seconds the mount is not asked now."""
        if self._rest_until < math.inf:
            return _SHORTLY
        return min(self._seldom, max(self._until - time.monotonic(), 0))

    def chosen(self, batch: Batch, wanted: Filter) -> list[Piece]:
        """Return what of *batch* is wanted, and no more than the count allows."""
        self.lost += batch.lost
        self.torn = batch.torn
        found = []
        for piece in map(wanted.chosen, batch.pieces):
            if self._left is not None:
                piece = piece.only(range(min(self._left, piece.count)))
                self._left -= piece.count
            if piece.count:
                found.append(piece)
        return found

    def is_over(self, batch: Batch) -> bool:
        """Return whether *batch* was the last."""
        now = time.monotonic()
        if self._left == 0 or now >= self._rest_until:
            return True
        if self._rest_until < math.inf:
            return not batch.pieces
        if now >= self._until or self._ending() is not None:
            self._rest_until = now + _REST
        return False
