"""The command as users call it: a process, its streams, its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support import loaded
from tests.support.examples import FULL

WORD = [sys.executable, "-m", "unionfs"]
REPO = str(Path(__file__).parents[2])


class Cli:
    """``unionfs`` on the store at ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {**os.environ, "UNIONFS_ROOT": str(root), "PYTHONPATH": _path()}

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and return what came of it."""
        if not FULL and options.keys() <= {"env", "timeout"}:
            return loaded.run(words, **{"env": self.env, "timeout": 60} | options)
        options = {"capture_output": True, "text": True, "timeout": 60, "env": self.env} | options
        return subprocess.run([*WORD, *words], check=False, **options)

    def __call__(self, *words: str, status: int = 0, **options: Any) -> str:
        """Run a command that ends with *status* and says nothing on standard error."""
        done = self.run(*words, **options)
        assert (done.returncode, done.stderr) == (status, ""), (words, done)
        return done.stdout

    def json(self, *words: str) -> Any:
        """Run a command with ``--json`` and return its one document."""
        return json.loads(self("--json", *words))

    def fails(self, *words: str, status: int = 1, **options: Any) -> str:
        """Run a command that fails; return its one line of error without ``unionfs: error:``."""
        done = self.run(*words, **options)
        lines = done.stderr.splitlines()
        assert (done.returncode, done.stdout, len(lines)) == (status, "", 1), (words, done)
        assert lines[0].startswith("unionfs: error: ")
        return lines[0].removeprefix("unionfs: error: ")

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command and return its process; the caller waits for it."""
        options = {"stdout": subprocess.PIPE, "text": True, "env": self.env} | options
        return subprocess.Popen([*WORD, *words], **options)

    def container(self, name: str) -> Path:
        """Return the directory of a container."""
        return self.root / "containers" / self.json("inspect", name)["id"]

    def daemons(self, name: str) -> Sequence[int]:
        """Return the pids of the processes that hold the container's upper directory open."""
        upper = str(self.container(name) / "upper")
        return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _holds(pid, upper)]

    def tidy(self) -> None:
        """Unmount and remove every container."""
        for name in self("ls", "-q").split():
            self.run("rm", "--force", name)


def _path() -> str:
    """Return what Python is to look in: this project first, then what we were told."""
    return os.pathsep.join(filter(None, (REPO, os.environ.get("PYTHONPATH"))))


def _holds(pid: str, path: str) -> bool:
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return False
    return any(link == path or link.startswith(path + "/") for link in links)
