"""Where a measurement works: the merged directory, the samples in it, and a clock."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SMALL = 16 * 1024


@dataclass(frozen=True, slots=True)
class Samples:
    """Paths that every contender shows, relative to the root; chosen once, for all runs."""

    files: tuple[str, ...]
    directories: tuple[str, ...]
    entries: int


@dataclass(frozen=True, slots=True)
class Place:
    """One fresh mount, and what a row may use."""

    merged: str
    samples: Samples
    tar: str
    daemon: int | None

    def at(self, path: str) -> str:
        """Return the path of *path* in the mount."""
        return os.path.join(self.merged, path)


def choose_samples(root: str, files: int = 200, directories: int = 50) -> Samples:
    """Walk *root* and take small files and directories from all over it, the same every time."""
    small, folders, entries = [], [], 1
    for here, subdirectories, names in os.walk(root):
        subdirectories.sort()
        entries += len(subdirectories) + len(names)
        folders.append(os.path.relpath(here, root))
        for name in sorted(names):
            status = os.lstat(os.path.join(here, name))
            if stat.S_ISREG(status.st_mode) and 0 < status.st_size <= SMALL:
                small.append(os.path.relpath(os.path.join(here, name), root))
    chance = random.Random(2)
    return Samples(
        tuple(chance.sample(small, min(files, len(small)))),
        tuple(chance.sample(folders, min(directories, len(folders)))),
        entries,
    )


def seconds(work: Callable[[], object]) -> float:
    """Return how long *work* takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def milliseconds(work: Callable[[], object]) -> float:
    """Return how long *work* takes, in ms."""
    return seconds(work) * 1e3


def microseconds_each(paths: Sequence[str], rounds: int, one: Callable[[str], object]) -> float:
    """Return what *one* takes on average, in µs, over *rounds* of all *paths* after a first."""

    def work(times: int) -> None:
        for _ in range(times):
            for path in paths:
                one(path)

    work(1)
    return seconds(lambda: work(rounds)) * 1e6 / (rounds * len(paths))


def shell(text: str, directory: str) -> None:
    """Run a line of shell in *directory*; its output is thrown away, its failure is not."""
    subprocess.run(
        ["/bin/sh", "-euc", text],
        cwd=directory,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def inside(root: str, text: str) -> None:
    """Run a line of shell with *root* as its root directory."""
    subprocess.run(
        ["chroot", root, "/bin/sh", "-euc", text],
        check=True,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def drop_caches() -> bool:
    """Empty the page, dentry and inode caches. Only root of the machine may: False otherwise."""
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
            file.write("3")
    except OSError:
        return False
    return True
