"""A process that has imported the whole program once and forks for each command.

So that a command can be run, and killed, hundreds of times. Before its first step the child waits
for a word, so that somebody can take up a position between it and the kernel. One JSON object a
line on standard input, one on standard output:

``{"start": WORDS, "out": PATH}`` answers ``{"pid": N}``; both streams go to the file. ``{"go": N}``
answers ``{}`` and ``{"wait": N}`` ``{"status": N}`` when that command has ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass

_LIFE_SECONDS = 120
_REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main() -> None:
    import unionfs.cli.container
    import unionfs.cli.image
    import unionfs.cli.main
    import unionfs.cli.mounting
    import unionfs.fuse.session
    import unionfs.image.importer  # noqa: F401 - all that commands import when they are called

    waiting: dict[int, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer = {}
        if "start" in request:
            pid, waiting_end = _start(request["start"], request["out"])
            waiting[pid] = waiting_end
            answer["pid"] = pid
        elif "go" in request:
            os.close(waiting.pop(request["go"]))
        else:
            answer["status"] = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        print(json.dumps(answer), flush=True)


def _start(words: list[str], out: str) -> tuple[int, int]:
    theirs, ours = os.pipe()
    ready, at_post = os.pipe()
    pid = os.fork()
    if pid:
        os.close(theirs)
        os.close(at_post)
        os.read(ready, 1)
        os.close(ready)
        return pid, ours
    status = 125
    try:
        os.close(ours)
        os.close(ready)
        signal.alarm(_LIFE_SECONDS)
        _streams(out)
        os.close(at_post)
        os.read(theirs, 1)
        os.close(theirs)
        status = _command(words)
    except BaseException:
        traceback.print_exc()  # a command raises nothing: see ``cli.main``
    finally:
        sys.stderr.flush()
        os._exit(status)


def _command(words: list[str]) -> int:
    from unionfs.cli.main import main as command

    status = command(["unionfs", *words])
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _streams(out: str) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number, stream in ((null, 0), (fd, 1), (fd, 2)):
        os.dup2(number, stream)
    os.close(null)
    os.close(fd)


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit status (negative: the signal), and all that it said."""

    status: int
    said: str


class Runner:
    """The parent of commands; see the module."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.runner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_REPO,
            # So that a repetition is one, and makes the same calls on every machine.
            env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "PYTHONUNBUFFERED": ""},
        )

    def _ask(self, **request: object) -> dict:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the runner is dead: see its standard error"
        return json.loads(answer)

    def start(self, *words: str, out: str) -> int:
        """Return the pid of a command that waits for ``go``; it says everything to *out*."""
        return self._ask(start=words, out=out)["pid"]

    def go(self, pid: int) -> None:
        self._ask(go=pid)

    def wait(self, pid: int) -> int:
        """Return the exit status of the command, negative for a signal."""
        return self._ask(wait=pid)["status"]

    def run(self, *words: str, out: str) -> Done:
        """Run a command to its end."""
        open(out, "wb").close()
        pid = self.start(*words, out=out)
        self.go(pid)
        status = self.wait(pid)
        with open(out, errors="replace") as file:
            return Done(status, file.read())

    def close(self) -> None:
        self._process.communicate(timeout=30)


if __name__ == "__main__":
    main()
