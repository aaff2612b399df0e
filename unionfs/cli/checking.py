"""``unionfs check``: whether the store and its containers are as they should be.

Exit statuses are those of fsck(8).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from unionfs.cli import output
from unionfs.cli.context import Context
from unionfs.cli.tree import Branch
from unionfs.errors import UnavailableError, UnionfsError, os_error_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unionfs.container.check import Finding

_CLEAN, _REPAIRED, _LEFT, _FAILED = 0, 1, 4, 8


class NotCheckedError(UnavailableError):
    """The store could not be looked at."""

    exit_status = _FAILED


def register(commands: Branch) -> None:
    """Add the command of this module."""
    parser = commands.command(
        "check",
        _check,
        "look for faults of the store and of containers; the exit status is as fsck's: 0 none,"
        " 1 all repaired, 4 some left, 8 it could not be looked at",
    )
    parser.add_argument("--repair", action="store_true", help="put right what can be")


def _check(context: Context) -> int:
    findings: list[Finding] = []
    try:
        if context.has_store():
            _look(context, findings)
    except (UnionfsError, OSError) as error:
        reason = os_error_line(error) if isinstance(error, OSError) else str(error)
        raise NotCheckedError(reason) from error
    status = _status(findings)
    if context.json:
        output.print_json({"status": status, "findings": [asdict(one) for one in findings]})
    else:
        print(_summary(findings))
    return status


def _look(context: Context, findings: list[Finding]) -> None:
    """Add all that is found to *findings*, and print it at once."""
    from unionfs.container.check import check

    with context.store() as store:
        for finding in check(store, repair=context.args.repair):
            findings.append(finding)
            if not context.json:
                _print(finding)


def _status(findings: Sequence[Finding]) -> int:
    faults = [one for one in findings if not one.harmless]
    if any(one.done is None for one in faults):
        return _LEFT
    return _REPAIRED if faults else _CLEAN


def _print(finding: Finding) -> None:
    mark = "note: " if finding.harmless else ""
    done = "" if finding.done is None else f" -- {finding.done}"
    print(output.shown(f"{mark}{finding.what}: {finding.says}{done}"), flush=True)


def _summary(findings: Sequence[Finding]) -> str:
    faults = [one for one in findings if not one.harmless]
    if not faults:
        return "no faults"
    left = [one for one in faults if one.done is None]
    words = [output.counted(len(faults), "fault")]
    if len(left) < len(faults):
        words.append(f"{len(faults) - len(left)} repaired")
    fixable = sum(one.repairable for one in left)
    if fixable:
        words.append(f"{fixable} can be repaired with --repair")
    if len(left) > fixable:
        words.append(f"{len(left) - fixable} cannot be repaired")
    return ", ".join(words)
