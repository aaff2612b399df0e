"""pjdfstest, a suite of POSIX tests for filesystems: got, run, its answers read.

It is the rewrite in Rust, a crate. All its tests that are for Linux run: the features that it asks
about are all here, and the filesystem is mounted read-only and back for EROFS.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass

from scripts.bench import crates

_NAME, _VERSION = "pjdfstest", "=0.2.2"
_USERS = ("nobody", "daemon")  # any two that have no privileges
_NAP = 0.05  # seconds, in which a filesystem's clock goes on
_FEATURES = ("posix_fallocate", "rename_ctime", "utime_now", "utimensat")
_READ_ONLY = "erofs"  # in the names of the tests that remount
_SECONDS = 900
_LONGEST = 50  # bytes of a path below which the suite can make sockets, whose paths have 107
_LINE = re.compile(r"^(\S+::\S+) +(ok|FAILED|skipped)$")
_SUMMARY = re.compile(r"^Summary: .* (\d+) total$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Answer:
    """How a test ended (``ok``, ``FAILED``, ``skipped``), and what it says of that."""

    verdict: str
    said: str = ""


class Suite:
    """The program, with its configuration below *place*; *cache* is where it is built.

    Raises AbsentError.
    """

    def __init__(self, cache: str, place: str) -> None:
        self._program = crates.program(cache, _NAME, _VERSION)
        self._place = place
        self._preload = os.path.join(place, "mknod.so")
        _compile(os.path.join(os.path.dirname(__file__), "mknod.c"), self._preload)

    def run(self, root: str, second: str) -> dict[str, Answer]:
        """Run it in the directory *root* and return all answers by the names of the tests.

        *second* is a directory of another filesystem. The tests of read-only filesystems run by
        themselves, because others leave files open for writing, and then nothing can be remounted.
        Raises OSError, ValueError or TimeoutExpired where there are no answers, or not all.
        """
        if len(os.fsencode(root)) > _LONGEST:
            raise OSError(f"{root} is too long a path for sockets: set TMPDIR to a shorter one")
        answers = parse(self._said(root, second, remount=False))
        read_only = parse(self._said(root, second, _READ_ONLY, remount=True))
        if not read_only or not set(read_only) < set(answers):
            raise ValueError(f"{_NAME} has no tests called {_READ_ONLY}")
        return answers | read_only

    def _said(self, root: str, second: str, *only: str, remount: bool) -> str:
        config = os.path.join(self._place, "config.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(_configuration(remount=remount))
        words = [self._program, "-c", config, "-p", root, "-s", second, *only]
        done = subprocess.run(
            words,
            env={**os.environ, "LD_PRELOAD": self._preload, "RUST_BACKTRACE": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
        )
        if done.returncode not in (0, 1):
            raise OSError(f"{_NAME} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout


def _compile(source: str, library: str) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        raise crates.AbsentError(f"there is no cc to compile {source} with")
    words = [compiler, "-shared", "-fPIC", "-o", library, source]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise crates.AbsentError(f"cc does not compile {source}: {done.stderr.strip()[-300:]}")


def parse(text: str) -> dict[str, Answer]:
    """Return the answers that *text*, the suite's output, has. Raises ValueError if some lack."""
    answers: dict[str, Answer] = {}
    lines = text.splitlines()
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if match := _LINE.match(line):
            said = after.strip() if after.startswith("\t") else ""
            answers[match[1]] = Answer(match[2], said)
    summary = _SUMMARY.search(text)
    if summary is None or int(summary[1]) != len(answers):
        raise ValueError(f"{len(answers)} answers, but it says: {summary and summary[0]}")
    return answers


def _configuration(*, remount: bool) -> str:
    entries = ", ".join(f'["{name}", "{_group(name)}"]' for name in _USERS)
    features = "".join(f"{name} = {{}}\n" for name in _FEATURES)
    return (
        f"[features]\n{features}"
        f"[settings]\nnaptime = {_NAP}\nallow_remount = {str(remount).lower()}\n"
        f"[dummy_auth]\nentries = [{entries}]\n"
    )


def _group(user: str) -> str:
    try:
        return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    except KeyError:
        raise OSError(f"there is no user {user} with a group, whom its tests become") from None
