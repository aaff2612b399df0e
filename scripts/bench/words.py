"""What the benches' command lines have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence


def some_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Return the parser of a comma-separated list; the words come in the order of *known*."""

    def parse(text: str) -> list[str]:
        words = text.split(",")
        if unknown := set(words) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
        return [name for name in known if name in words]

    return parse


def count(text: str) -> int:
    """Parse a number that is one at least."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"no number above zero: {text!r}")
    return int(text)


def say(text: str) -> None:
    """Show on a terminal what is being done, in the place of what was said before."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
