"""``unionfs stats``: what a mount did so far, how fast, and in which modes it works."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from unionfs.cli import output
from unionfs.cli.context import Context
from unionfs.cli.tree import Branch
from unionfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unionfs.inspect.statistics import Operation

_HEADERS = ("REQUEST", "COUNT", "ERRORS", "HALF IN", "90% IN", "99% IN", "LONGEST")
_CLEAR = "\033[H\033[J"  # cursor home, erase what is below (ECMA-48)
_EVERY = 2.0  # seconds


def register(commands: Branch) -> None:
    """Add the command of this module."""
    parser = commands.command("stats", _stats, "show what a mount did, how fast, and how")
    parser.add_argument("subject", metavar="CONTAINER|TARGET")
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=float,
        const=_EVERY,
        help=f"again and again, what came meanwhile, until interrupted (default: {_EVERY:g})",
    )
    parser.add_argument(
        "--prometheus", action="store_true", help="in the text format that Prometheus reads"
    )


def _stats(context: Context) -> int:
    from unionfs.container.stats import find_mount, read_stats

    args = context.args
    if args.prometheus and (context.json or args.watch is not None):
        raise UsageError("--prometheus goes with neither --json nor --watch")
    if args.watch is not None and (context.json or not 0.1 <= args.watch <= 86400):
        raise UsageError("--watch takes 0.1 to 86400 seconds, and does not go with --json")
    if context.has_store():
        with context.store() as store:
            target = find_mount(store, args.subject)
    else:
        target = find_mount(None, args.subject)
    if args.watch is not None:
        return _watch(target, args.watch)
    document = read_stats(target)
    if context.json:
        output.print_json({"target": output.text_of(target), **document})
    elif args.prometheus:
        from unionfs.cli.metrics import exposition

        sys.stdout.write(exposition(target, document))
    else:
        _show(target, document)
    return 0


def _show(target: bytes, document: Mapping[str, Any]) -> None:
    from unionfs.inspect.statistics import operations_of

    print(f"{output.plain(target)}, for {_long(document['uptime_seconds'])}\n")
    operations = operations_of(document)
    _print_operations(operations)
    print()
    output.print_fields(_fields(document, operations))


def _print_operations(operations: Mapping[str, Operation]) -> None:
    ordered = sorted(operations.items(), key=lambda item: (-item[1].count, item[0]))
    rows = [_row(name, one) for name, one in ordered if one.count]
    output.print_table(_HEADERS, rows)


def _row(name: str, one: Operation) -> tuple[str, ...]:
    times = (
        [output.took(one.percentile(percent)) for percent in (50, 90, 99)]
        if any(one.buckets)
        else ["-"] * 3
    )
    longest = output.took(one.longest_ns) if one.longest_ns else "-"
    return (name, f"{one.count:,}", f"{one.errors:,}", *times, longest)


def _fields(document: Mapping[str, Any], operations: Mapping[str, Operation]) -> dict[str, Any]:
    copied, polling = document["copy_ups"], document["busy_polling"]
    ahead = document["files_ahead"]
    total = sum(one.count for one in operations.values())
    return {
        "Answered without Python": f"{document['answered_by_extension']:,} of {total:,} requests, "
        f"{document['answered_directly']:,} more without pyfuse3",
        "Copied up": f"{output.counted(copied['files'], 'file')}, {output.size(copied['bytes'])}",
        "Unforeseen errors": f"{document['unforeseen_errors']:,}",
        "Known files": f"{document['nodes']:,}",
        "Descriptors": f"{document['descriptors']:,}",
        "Memory": output.size(document["memory_bytes"]),
        "Busy-polled": f"{output.took(polling['spent_ns'])}, "
        f"which caught {polling['caught']:,} requests",
        "Files read ahead": f"{ahead['asked']:,}, {ahead['foreseen']:,} read as foreseen",
        "Daemon": f"process {document['pid']}, unionfs {document['version']}",
        "Modes": [_mode(one) for one in document["modes"]],
    }


def _mode(one: Mapping[str, str]) -> str:
    because = f" ({one['because']})" if one["because"] else ""
    return f"{one['mode']}: {one['is']}{because}"


def _watch(target: bytes, seconds: float) -> int:
    """Show every so often what requests came meanwhile, until the mount ends or SIGINT."""
    from unionfs.container.stats import read_stats
    from unionfs.inspect.statistics import Operation, operations_of

    before = operations_of(read_stats(target))
    while True:
        time.sleep(seconds)
        document = read_stats(target)
        now = operations_of(document)
        if sys.stdout.isatty():
            print(_CLEAR, end="")
        print(f"{output.plain(target)}, in the last {seconds:g} seconds\n")
        _print_operations(
            {name: one.since(before.get(name, Operation())) for name, one in now.items()}
        )
        print(
            f"\n{document['nodes']:,} known files, {document['descriptors']:,} descriptors, "
            f"{output.size(document['memory_bytes'])} of memory\n",
            flush=True,
        )
        before = now


def _long(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
