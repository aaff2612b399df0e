"""A tour's voice: headings, prose, and commands that are shown, run, and held to their word."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Mapping

_WIDTH = 84


class SurpriseError(Exception):
    """A command did not do what the demo had just said that it would."""


class RefusedError(Exception):
    """A command would not take what the demo was given; it has said why."""


class Narrator:
    """Tells the story on standard output; commands run with *environment*."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {**os.environ, **environment}
        self._colours = sys.stdout.isatty()
        self._chapter = 0

    def chapter(self, title: str) -> None:
        """Begin the next part."""
        self._chapter += 1
        print(f"\n\n{self._bold(f'{self._chapter}. {title}')}", flush=True)

    def say(self, text: str) -> None:
        """Print a paragraph."""
        print("\n" + textwrap.fill(" ".join(text.split()), _WIDTH), flush=True)

    def run(
        self, *words: str, status: int = 0, lines: int = 16, live: bool = False, says: str = ""
    ) -> str:
        """Show a command, run it, show at most *lines* of what it says, return its output.

        *live* leaves its standard error on the terminal, for a progress bar. Raises SurpriseError
        when its exit status is not *status*, or *says* is nowhere in what it says.
        """
        print(f"\n  $ {self._bold(shlex.join(words))}", flush=True)
        errors = None if live else subprocess.PIPE
        done = self._call(words, errors)
        said = [line for text in (done.stdout, done.stderr) for line in (text or "").splitlines()]
        silence = [] if live and done.returncode else ["(no output)"]
        for line in said[:lines] or silence:
            print(f"    {line}")
        if len(said) > lines:
            print(f"    … and {len(said) - lines} more lines")
        self._check(words, done, status)
        self.expect(says in "\n".join(said), f"{shlex.join(words)}: does not say: {says}")
        return done.stdout

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command without a word about it; its failure is the caller's to judge."""
        return self._call(words, subprocess.PIPE)

    def expect(self, fact: bool, otherwise: str) -> None:
        """Raise SurpriseError saying *otherwise* unless *fact* holds."""
        if not fact:
            raise SurpriseError(otherwise)

    def _call(self, words: tuple[str, ...], errors: int | None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="backslashreplace",
        )

    def _check(
        self, words: tuple[str, ...], done: subprocess.CompletedProcess[str], status: int
    ) -> None:
        if done.returncode != status:
            what = f"{shlex.join(words)}: exit status {done.returncode}, expected {status}"
            raise SurpriseError(what)

    def _bold(self, text: str) -> str:
        return f"\033[1m{text}\033[0m" if self._colours else text
