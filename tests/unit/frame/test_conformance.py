"""How the answers of the POSIX test suite are read and judged; the suite itself is not run."""

from __future__ import annotations

import pytest

from scripts.conformance.__main__ import _failures
from scripts.conformance.suite import Answer, parse

OUTPUT = """\
chmod::change_perm::fifo                                                      ok
link::link_count_max                                                     skipped
\tCannot get value for LINK_MAX: filesystem limit is unknown
unlink::open_file_not_freed                                               FAILED
\tassertion `left == right` failed
  left: 1

Summary: 1 failed, 1 skipped, 1 passed, 0 expected failures, 3 total
Error: Some tests have failed
"""


def test_answers_and_what_is_said_of_them() -> None:
    assert parse(OUTPUT) == {
        "chmod::change_perm::fifo": Answer("ok"),
        "link::link_count_max": Answer(
            "skipped", "Cannot get value for LINK_MAX: filesystem limit is unknown"
        ),
        "unlink::open_file_not_freed": Answer("FAILED", "assertion `left == right` failed"),
    }


@pytest.mark.parametrize("left_out", ["Summary", "chmod"])
def test_output_with_something_missing_is_no_success(left_out: str) -> None:
    lines = [line for line in OUTPUT.splitlines() if not line.startswith(left_out)]
    with pytest.raises(ValueError, match="answers, but it says"):
        parse("\n".join(lines))


def test_what_ext4_fails_is_held_against_nobody_else() -> None:
    ok, failed = Answer("ok"), Answer("FAILED", "why")
    assert _failures(
        {
            "ext4": {"a::b": ok, "c::d": failed, "open::etxtbsy": ok},
            "unionfs": {"a::b": failed, "c::d": failed, "open::etxtbsy": failed},
            "unionfs-pure": {"a::b": ok, "c::d": failed, "open::etxtbsy": failed},
        }
    ) == [
        ("ext4", "c::d", "why"),
        ("unionfs", "a::b", "why"),
        ("unionfs", "open::etxtbsy", "why"),
    ]
