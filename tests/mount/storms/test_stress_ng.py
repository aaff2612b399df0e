"""stress-ng's filesystem stressors, with its own checks on (``--verify``).

Each works in a directory that layers have files in, several at once; how much is said in operations
and not in seconds. In the full run each works for a minute, a few at a time. Left out is what FUSE
has not (fiemap, verity) and what counts no operations (inode-flags).
"""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.support import trees
from tests.support.examples import FULL
from tests.support.stacks import Dir, File, Link, Symlink, Whiteout, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

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


@pytest.fixture
def layers(scratch):
    low = [
        Dir(b"work", 0o777),
        File(b"work/file", b"lower ", 9000),
        Link(b"work/same", b"work/file"),
        Symlink(b"work/link", b"file"),
        File(b"work/gone"),
        File(b"work/dir/below"),
    ]
    return build_stack(scratch + b"/s", [low, [Whiteout(b"work/gone"), File(b"work/dir/above")]])


class _Stressor:
    """One stress-ng on *where*, begun; ``finish`` expects that it made *wanted* operations."""

    def __init__(self, name: str, where: bytes, words: list[str], wanted: int) -> None:
        self.name, self.wanted = name, wanted
        self.report = where + b"-%s.yaml" % name.encode()  # beside the directory, in the mount
        common = ["--verify", "--mmap-file", "--temp-path", os.fsdecode(where)]
        told = ["--timeout", str(SECONDS), "--metrics", "--yaml", os.fsdecode(self.report)]
        self.process = subprocess.Popen(
            ["stress-ng", *words, *common, *told],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
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


@pytest.mark.needs_kernel_overlay
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("group", GROUPS)
def test_stressors_run_clean(union, overlay, layers, group):
    """They find no fault, and what was there before is there afterwards, and nothing else."""
    mounted = union(layers)
    before = trees.snapshot(mounted.root)
    where = mounted.root + b"/work"
    if FULL:
        for names in _few_at_a_time(list(GROUPS[group])):
            for stressor in [_Stressor(name, where, [f"--{name}", "2"], 1) for name in names]:
                stressor.finish()
    else:
        smaller = [word for name, value in SMALLER.items() for word in (f"--{name}", value)]
        begun = [
            _Stressor(name, where, [f"--{name}", "1", f"--{name}-ops", str(count), *smaller], count)
            for name, count in GROUPS[group].items()
            if name not in FULL_ONLY
        ]
        for stressor in begun:
            stressor.finish()
    fields = [field for field in trees.FIELDS if field != "mtime"]
    after = trees.snapshot(mounted.root)
    trees.assert_same(before, after, ("before", "after"), fields=fields)
    mounted.unmount()
    trees.assert_same(after, trees.snapshot(overlay(layers).root), ("union", "kernel"))
