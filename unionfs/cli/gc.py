"""``unionfs gc``: what nothing refers to goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unionfs.cli import output
from unionfs.cli.context import Context, note
from unionfs.cli.tree import Branch
from unionfs.errors import os_error_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unionfs.store.garbage import Trash


def register(commands: Branch) -> None:
    """Add the command of this module."""
    parser = commands.command(
        "gc", _gc, "remove what nothing refers to: layers, and what killed commands left"
    )
    parser.add_argument("--dry-run", action="store_true", help="remove nothing, only list it")
    parser.add_argument(
        "--blobs",
        action="store_true",
        help="also compressed layers that are kept as they came; an export compresses anew then",
    )


def _gc(context: Context) -> int:
    from unionfs.store.garbage import Sweep

    args = context.args
    failures: list[str] = []

    def failed(what: str, error: OSError) -> None:
        failures.append(f"cannot remove {what}: {os_error_line(error)}")

    sweep = Sweep(dry=args.dry_run, measured=True, failed=failed)
    if context.has_store():
        with context.store() as store:
            store.sweep(sweep, blobs=args.blobs)
    if context.json:
        output.print_json(
            {
                "dry_run": args.dry_run,
                "removed": [one._asdict() for one in sweep.found],
                "freed": _total(sweep.found),
                "failed": failures,
            }
        )
    else:
        _print(sweep.found, dry=args.dry_run)
    for line in failures:
        note(line)
    return 1 if failures else 0


def _print(found: Sequence[Trash], *, dry: bool) -> None:
    """Print a line for each thing but locks, which nobody misses, and the sum."""
    from unionfs.store.scratch import LOCK

    for one in found:
        if one.kind != LOCK:
            print(
                f"{'would remove' if dry else 'removed'} {one.kind} {one.name}  "
                f"{output.size(one.size)}"
            )
    print(f"{'would free' if dry else 'freed'} {output.size(_total(found))}")


def _total(found: Sequence[Trash]) -> int:
    return sum(one.size for one in found)
