"""Sequences of changes to the tree of ``crash_cases``, and what a plain directory makes of them.

Every change can come after every other: one that is impossible then fails, on both sides alike.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator

from tests.support import crash_cases as c
from tests.support.crash_cases import Step
from tests.support.crashes import look
from tests.support.stacks import PAST_NS
from tests.support.trees import Tree

STEPS: dict[str, Step] = {
    "write file": c.overwrite(b"file"),
    "write dir/a": c.overwrite(b"dir/a", b"appended", 25),
    "cut file": c.truncate(b"file", 3),
    "write hard/one": c.overwrite(b"hard/one"),
    "chmod third": c.chmod(b"third", 0o600),
    "chmod dir": c.chmod(b"dir", 0o700),
    "create file": c.create(b"file"),
    "create dir/new": c.create(b"dir/new"),
    "mkdir dir": c.mkdir(b"dir"),
    "mkdir empty": c.mkdir(b"empty"),
    "symlink file": c.symlink(b"file", b"x"),
    "link file": c.link(b"file", b"dir/linked"),
    "link hard/two": c.link(b"hard/two", b"merged/linked"),
    "unlink file": c.unlink(b"file"),
    "unlink hard/one": c.unlink(b"hard/one"),
    "unlink merged/one": c.unlink(b"merged/one"),
    "unlink merged/two": c.unlink(b"merged/two"),
    "rmdir empty": c.rmdir(b"empty"),
    "rmdir merged": c.rmdir(b"merged"),
    "rename file": c.rename(b"file", b"dir/a"),
    "rename dir/a": c.rename(b"dir/a", b"file"),
    "rename third": c.rename(b"third", b"file"),
    "rename dir": c.rename(b"dir", b"empty"),
    "rename empty": c.rename(b"empty", b"dir"),
    "rename merged": c.rename(b"merged", b"dir/merged"),
    "rename dir/merged": c.rename(b"dir/merged", b"merged"),
    "exchange": c.exchange(b"dir", b"merged"),
}
Sequence = tuple[str, ...]


def sequences(length: int) -> Iterator[Sequence]:
    """Yield every sequence of *length* changes."""
    return itertools.product(STEPS, repeat=length)


def batches(found: Iterator[Sequence], size: int) -> Iterator[tuple[Sequence, ...]]:
    """Yield *size* of *found* at a time; fewer in the end."""
    while batch := tuple(itertools.islice(found, size)):
        yield batch


def apply(root: bytes, names: Sequence) -> list[int]:
    """Make the changes below *root*; return the errno of each, 0 for success."""
    told = []
    for name in names:
        try:
            STEPS[name](root)
            told.append(0)
        except OSError as error:
            told.append(error.errno or -1)
    return told


class Plain:
    """The same tree in plain directories, made anew for each sequence from one at *original*."""

    def __init__(self, original: bytes, folder: bytes) -> None:
        self._original, self._folder = original, folder

    def after(self, names: Sequence) -> tuple[list[int], Tree]:
        """Return what the changes answer there, and the tree that comes of them."""
        subprocess.run(["rm", "-rf", "--", self._folder], check=True)
        subprocess.run(["cp", "-a", "--", self._original, self._folder], check=True)
        return apply(self._folder, names), look(self._folder)


def flattened(layers: tuple[bytes, ...], folder: bytes) -> bytes:
    """Copy *layers* (topmost first, without whiteouts) over one another into *folder*.

    Its own times are those of a fresh upper, which the root of a mount shows.
    """
    os.mkdir(folder)
    for layer in reversed(layers):
        subprocess.run(["cp", "-a", "--", layer + b"/.", folder], check=True)
    os.utime(folder, ns=(PAST_NS, PAST_NS))
    return folder
