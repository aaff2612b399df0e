"""How the answers of the POSIX test suite are read and judged; the suite itself is not run."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from scripts.bench import crates
from scripts.bench.crates import AbsentError
from scripts.conformance import __main__ as conformance
from scripts.conformance import suite
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


def test_a_test_that_ext4_has_no_answer_to_is_held_against_all() -> None:
    failed = Answer("FAILED", "why")
    assert _failures({"ext4": {}, "unionfs": {"a::b": failed}}) == [("unionfs", "a::b", "why")]


OK = {"a::b": Answer("ok")}
LATE = subprocess.TimeoutExpired(["pjdfstest"], 900)


class _Suite:
    """What stands for the suite: it raises ``fails[root]`` in the directory *root*."""

    fails: ClassVar[dict[str, Exception]] = {}

    def __init__(self, cache: str, place: str) -> None:
        if "program" in self.fails:
            raise self.fails["program"]

    def run(self, root: str, second: str) -> dict[str, Answer]:
        if root in self.fails:
            raise self.fails[root]
        return OK


@contextlib.contextmanager
def _ground(name: str, place: str) -> Iterator[tuple[str, str]]:
    try:
        yield name, "second"
    finally:
        if "umount" in _Suite.fails:
            raise _Suite.fails["umount"]


@contextlib.contextmanager
def _helper(place: str) -> Iterator[None]:
    if "helper" in _Suite.fails:
        raise _Suite.fails["helper"]
    yield


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[[dict[str, Exception]], tuple[object, list[str]]]:
    """Return what runs it on ext4 and unionfs with these failures.

    It gives the exit status, or the message that it ends with, and the lines on standard error.
    """
    monkeypatch.setattr(conformance, "CACHE", str(tmp_path))
    monkeypatch.setattr(conformance, "Suite", _Suite)
    monkeypatch.setattr(conformance, "ground", _ground)
    monkeypatch.setattr(conformance, "helper_of_mount", _helper)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("sys.argv", ["conformance", "--on", "unionfs"])

    def run(fails: dict[str, Exception]) -> tuple[object, list[str]]:
        monkeypatch.setattr(_Suite, "fails", fails)
        try:
            status: object = conformance.main()
        except SystemExit as end:
            status = end.code
        return status, capsys.readouterr().err.splitlines()

    return run


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        ({"program": AbsentError("no\ncc")}, "conformance: no pjdfstest: no cc"),
        ({"program": OSError("disk full")}, "conformance: disk full"),
        ({"helper": OSError("mount: no overlay")}, "conformance: mount: no overlay"),
        (
            {"ext4": ValueError("0 answers")},
            "conformance: no ext4 to compare with: 0 answers",
        ),
        (
            {"ext4": LATE, "umount": OSError("busy")},
            f"conformance: no ext4 to compare with: {LATE}",
        ),
    ],
)
def test_a_machine_that_cannot_run_it_is_told_in_one_line(run, fails, said) -> None:
    assert run(fails) == (said, [])


@pytest.mark.parametrize(
    "error", [ValueError("0 answers"), LATE, subprocess.CalledProcessError(32, "umount")]
)
def test_a_filesystem_that_gives_no_answers_is_told_in_one_line(run, error) -> None:
    assert run({}) == (0, [])
    assert run({"unionfs": error}) == (1, [f"conformance: without unionfs: {error}"])


def test_users_that_the_machine_does_not_have_are_an_error(monkeypatch) -> None:
    monkeypatch.setattr(pwd, "getpwnam", {}.__getitem__)
    with pytest.raises(OSError, match="no user nobody"):
        suite._configuration(remount=False)


def test_no_compiler_is_a_reason(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(crates, "program", lambda *words: "pjdfstest")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AbsentError, match="no cc"):
        suite.Suite(str(tmp_path), str(tmp_path))


CARGO = """\
#!/bin/sh
while [ "$1" != --root ]; do shift; done
mkdir -p "$2/bin"
echo "$3 $5" > "$2/bin/$3"
"""


def test_a_program_is_of_the_version_that_is_asked_for(monkeypatch, tmp_path: Path) -> None:
    cargo = tmp_path / "cargo"
    cargo.write_text(CARGO)
    cargo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    cache = str(tmp_path / "cache")
    for version in ("=1.0.0", "^2", "=1.0.0"):
        found = Path(crates.program(cache, "tool", version))
        assert found.read_text() == f"tool {version}\n"
    cargo.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    crates.program(cache, "tool", "^2")
    with pytest.raises(AbsentError, match="no cargo"):
        crates.program(cache, "tool", "^3")
