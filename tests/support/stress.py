"""stress-ng's filesystem stressors, with its own checks on (``--verify``).

Each works in a directory that layers have files in, several at once; how much is said in operations
and not in seconds. In the full run each works for a minute, a few at a time. Left out is what FUSE
has not (fiemap, verity) and what counts no operations (inode-flags).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable

from tests.support.examples import FULL
from tests.support.stacks import Dir, File, Layer, Link, Symlink

Start = Callable[..., subprocess.Popen[str]]

SECONDS = 60
TOGETHER = 3
# How many operations in the small run.
GROUPS: dict[str, dict[str, int]] = {
    "names": {
        "chdir": 1,
        "dentry": 400,
        "dir": 400,
        "dirdeep": 200,
        "dirmany": 200,
        "dnotify": 20,
        "filename": 100,
        "getdent": 3000,
        "inotify": 1,
        "link": 1,
        "mknod": 200,
        "open": 500,
        "rename": 1000,
        "symlink": 1,
        "touch": 200,
    },
    "attributes": {
        "access": 20,
        "chattr": 2,
        "chmod": 10,
        "chown": 50,
        "fcntl": 200,
        "file-ioctl": 200,
        "fstat": 200,
        "handle": 1000,
        "utime": 200,
        "xattr": 1,
    },
    "data": {
        "aio": 1000,
        "copy-file": 50,
        "dup": 100,
        "fallocate": 5,
        "fpunch": 100,
        "fsize": 20,
        "hdd": 500,
        "io": 500,
        "iomix": 500,
        "mmap": 1,
        "msync": 100,
        "readahead": 2000,
        "revio": 2000,
        "seek": 100,
        "sendfile": 500,
        "splice": 2000,
        "sync-file": 5,
    },
    "locks": {"flock": 20000, "lease": 300, "locka": 20000, "lockf": 2000, "lockofd": 20000},
}
# In the full run: what takes longer than a minute on a busy machine, where it is as large as it is.
LARGE = ["--mmap-bytes", "64m"]
FULL_ONLY = {"fpunch"}  # it does not stop after a number of operations
SMALLER = {
    "chdir-dirs": "64",
    "mmap-bytes": "4m",
    "fallocate-bytes": "4m",
    "hdd-bytes": "4m",
    "iomix-bytes": "4m",
    "readahead-bytes": "4m",
    "revio-bytes": "4m",
    "seek-size": "4m",
    "sync-file-bytes": "4m",
    "msync-bytes": "1m",
}
# A layer to work on, and what is to be in one above it.
LOW: Layer = [
    Dir(b"work", 0o777),
    File(b"work/file", b"lower ", 9000),
    Link(b"work/same", b"work/file"),
    Symlink(b"work/link", b"file"),
    File(b"work/dir/below"),
]


class Stressor:
    """One stress-ng on *where*, begun; ``finish`` expects that it made *wanted* operations."""

    def __init__(
        self, start: Start, reports: bytes, name: str, where: bytes, words: list[str], wanted: int
    ) -> None:
        self.name, self.wanted = name, wanted
        self.report = reports + b"/%s.yaml" % name.encode()
        common = ["--verify", "--mmap-file", "--temp-path", os.fsdecode(where)]
        told = ["--timeout", str(SECONDS), "--metrics", "--yaml", os.fsdecode(self.report)]
        self.process = start(
            "stress-ng",
            *words,
            *common,
            *told,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def finish(self) -> None:
        said, _ = self.process.communicate()
        bad = re.search(r": (fail|error|warn):", said)
        assert self.process.returncode == 0 and not bad, said
        with open(self.report) as file:
            found = re.search(rf"- stressor: {self.name}\n\s*bogo-ops: (\d+)", file.read())
        os.unlink(self.report)
        assert found and int(found[1]) >= self.wanted, said


def _few_at_a_time(names: list[str]) -> list[list[str]]:
    return [names[at : at + TOGETHER] for at in range(0, len(names), TOGETHER)]


def start_as_we_are(*words: str, **how) -> subprocess.Popen[str]:
    return subprocess.Popen(words, text=True, **how)


def run_group(group: str, where: bytes, reports: bytes, start: Start = start_as_we_are) -> None:
    """Run the stressors of *group* in the directory *where*; fail if one finds a fault.

    Their reports go to the directory *reports*; *start* starts a program, as whom it likes.
    """
    if FULL:
        for names in _few_at_a_time(list(GROUPS[group])):
            _finish(
                [
                    Stressor(start, reports, name, where, [f"--{name}", "2", *LARGE], 1)
                    for name in names
                ]
            )
        return
    smaller = [word for name, value in SMALLER.items() for word in (f"--{name}", value)]
    _finish(
        [
            Stressor(
                start,
                reports,
                name,
                where,
                [f"--{name}", "1", f"--{name}-ops", str(n), *smaller],
                n,
            )
            for name, n in GROUPS[group].items()
            if name not in FULL_ONLY
        ]
    )


def _finish(begun: list[Stressor]) -> None:
    for stressor in begun:
        stressor.finish()
