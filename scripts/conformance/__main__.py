"""Run pjdfstest on unionfs, the kernel's overlayfs, fuse-overlayfs and the ext4 below them.

The suite is built by cargo, which fetches it, once. The exit status is 1 if unionfs fails a test
that ext4 passes. unionfs-owners: with xattr_permissions=2; unionfs-pure: without the C extension.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence

from scripts.bench.crates import AbsentError
from scripts.bench.words import some_of
from scripts.conformance.ground import NAMES, OURS, PLAIN, ground, helper_of_mount
from scripts.conformance.suite import Answer, Suite
from scripts.demo.image import CACHE

# Without the extension the running program is emptied before it is refused (README, Limits), and if
# it has died of that by then it is not refused either.
_LIMITS = {("unionfs-pure", "open::etxtbsy")}

# What a machine that is not as expected comes to: each is told in one line.
_ERRORS = (OSError, ValueError, subprocess.SubprocessError)

Answers = dict[str, dict[str, Answer]]


def main() -> int:
    """Run what the command line asks for, and say how it went."""
    asked = _arguments()
    if os.geteuid() != 0:
        sys.exit("conformance: needs root: sudo make conformance")
    try:
        answers = _answers(asked.on)
    except AbsentError as error:
        sys.exit(f"conformance: no pjdfstest: {_line(error)}")
    except _ERRORS as error:
        sys.exit(f"conformance: {_line(error)}")
    print(f"{platform.release()}, pjdfstest as root\n\n{_table(answers)}\n")
    failures = _failures(answers)
    for name, test, said in failures:
        print(f"FAILED {name}: {test}: {said}")
    lacking = set(OURS).intersection(asked.on) - set(answers)
    return 1 if lacking or any(name in OURS for name, _, _ in failures) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make conformance", description=__doc__)
    parser.add_argument(
        "--on",
        type=some_of(NAMES),
        default=list(NAMES),
        help="of " + ", ".join(NAMES) + "; always on " + PLAIN,
    )
    return parser.parse_args()


def _answers(wanted: Sequence[str]) -> Answers:
    cache = os.path.join(CACHE, "bench")
    os.makedirs(cache, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pjd-") as place:
        os.chmod(place, 0o755)  # for the users that tests become
        return _run(Suite(cache, place), place, wanted)


def _run(suite: Suite, place: str, wanted: Sequence[str]) -> Answers:
    """Return the answers on ext4 and on those *wanted* that are to be had; say which are not."""
    answers = {}
    with helper_of_mount(place):
        for name in dict.fromkeys([PLAIN, *wanted]):
            try:
                with ground(name, place) as (root, second):
                    answers[name] = suite.run(root, second)
            except _ERRORS as error:
                if name == PLAIN:
                    raise OSError(f"no {PLAIN} to compare with: {_line(error)}") from None
                print(f"conformance: without {name}: {_line(error)}", file=sys.stderr)
    return answers


def _line(error: BaseException) -> str:
    """Return what went wrong first: what is cleared away after it may fail because of it."""
    while isinstance(error.__context__, _ERRORS) and not error.__suppress_context__:
        error = error.__context__
    return " ".join(str(error).split())


def _table(answers: Answers) -> str:
    lines = [f"{'':16}{'passed':>8}{'failed':>8}{'skipped':>8}"]
    for name, found in answers.items():
        count = Counter(answer.verdict for answer in found.values())
        lines.append(f"{name:16}{count['ok']:>8}{count['FAILED']:>8}{count['skipped']:>8}")
    return "\n".join(lines)


def _failures(answers: Answers) -> list[tuple[str, str, str]]:
    """Return where, which and why for tests that fail; what ext4 fails as well, for ext4 only."""
    plain = answers[PLAIN]
    return [
        (name, test, answer.said)
        for name, found in answers.items()
        for test, answer in sorted(found.items())
        if answer.verdict == "FAILED"
        and (name == PLAIN or test not in plain or plain[test].verdict == "ok")
        and (name, test) not in _LIMITS
    ]


if __name__ == "__main__":
    sys.exit(main())
