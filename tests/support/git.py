"""git with nothing of this machine's configuration."""

from __future__ import annotations

import os
import subprocess

_ENV = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_OPTIONAL_LOCKS": "0",  # `git status` does not write down what it found out
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "LC_ALL": "C",
}


def git(where: bytes, *words: str | bytes) -> bytes:
    """Run git in *where*; return what it printed. A failure shows all that it said."""
    done = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", "-c", "core.fsync=all", *words],
        cwd=where,
        env={**os.environ, **_ENV},
        capture_output=True,
    )
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout
