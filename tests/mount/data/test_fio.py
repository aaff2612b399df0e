"""fio writes and verifies: each of its ways to read and write, on new files and on a layer's.

Every block carries a checksum and its place. A layer's file is written over, so that its first
block copies it up; a second fio verifies everything once more under a new mount.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.examples import FULL
from tests.support.files import opened
from tests.support.stacks import File, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

SIZE = 128 << 20 if FULL else 1 << 20
ENGINES = {
    "pwrite": ["--ioengine=psync"],
    "direct": ["--ioengine=psync", "--direct=1"],
    "vectors": ["--ioengine=pvsync2", "--rw=randrw"],
    "aio": ["--ioengine=libaio", "--direct=1", "--iodepth=16"],
    "aio-buffered": ["--ioengine=libaio", "--iodepth=16"],
    "mmap": ["--ioengine=mmap"],
    "synced": ["--ioengine=sync", "--fsync=16", "--fdatasync=16"],
    "splice": ["--ioengine=splice"],
    "posixaio": ["--ioengine=posixaio", "--iodepth=8"],
}


def _fio(path: bytes, *words: str) -> None:
    """*words* up to the first ``--name`` go for every job; without one there is one job."""
    command = [
        "fio",
        "--thread",  # no shared memory of fio's own
        "--name=global",  # an option belongs to the job before it, these to all that follow
        f"--filename={os.fsdecode(path)}",
        f"--size={SIZE}",
        "--bsrange=512-64k",
        "--blockalign=512",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--randseed=7",
        "--fallocate=none",
        "--overwrite=0",
        "--allow_file_create=0",
        *words,
    ]
    if not any(word.startswith("--name=") for word in words):
        command.append("--name=job")
    done = subprocess.run(command, capture_output=True, cwd="/", timeout=3000)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    assert b"verify" not in done.stderr.lower(), done.stderr.decode()


CASES = [("lower", name) for name in (ENGINES if FULL else ("direct", "aio", "mmap", "splice"))]
CASES += [("upper", name) for name in (ENGINES if FULL else ("aio",))]


@pytest.mark.timeout(36_000 if FULL else 300)
@pytest.mark.parametrize(("kind", "engine"), CASES)
def test_what_was_written_is_read(union, scratch, kind, engine):
    entry = File(b"d/f", b"old ", SIZE)
    layers = build_stack(scratch + b"/s", [[entry], [File(b"x")]])
    mounted = union(layers)
    path = mounted.root + b"/d/f"
    if kind == "upper":
        os.unlink(path)
        entry.make(path)
    _fio(path, "--rw=randwrite", *ENGINES[engine])
    mounted.unmount()
    again = union(layers).root + b"/d/f"
    _fio(again, "--rw=randwrite", *ENGINES[engine], "--verify_only=1")


def test_fio_finds_what_is_wrong(union, scratch):
    """The test tested."""
    path = union(build_stack(scratch + b"/s", [[File(b"f", b"old ", SIZE)]])).root + b"/f"
    _fio(path, "--rw=randwrite")
    with opened(path, os.O_RDWR) as fd:
        os.pwrite(fd, bytes(SIZE // 2), SIZE // 4)
    with pytest.raises(AssertionError, match=r"verify: bad|verify failed"):
        _fio(path, "--rw=randwrite", "--verify_only=1")


@pytest.mark.timeout(36_000 if FULL else 300)
def test_four_jobs_on_one_file_of_a_layer(union, scratch):
    """Each has a quarter of it, by a way of its own; all start together and verify their own.

    A new mount has it all, and a wrong byte in any quarter is found.
    """
    layers = build_stack(scratch + b"/s", [[File(b"f", b"old ", 4 * SIZE)]])
    words = ["--rw=randwrite"]
    # fio maps a file from its start, whatever its offset: the first quarter is the mapping's.
    for number, engine in enumerate(["mmap", "pwrite", "direct", "aio"]):
        words += [f"--name=job{number}", f"--offset={number * SIZE}", *ENGINES[engine]]
    mounted = union(layers)
    _fio(mounted.root + b"/f", *words)
    mounted.unmount()
    path = union(layers).root + b"/f"
    _fio(path, "--verify_only=1", *words)
    with opened(path, os.O_RDWR) as fd:
        for place in range(SIZE // 2, 4 * SIZE, SIZE):
            right = os.pread(fd, 1, place)
            os.pwrite(fd, bytes([right[0] ^ 1]), place)
            with pytest.raises(AssertionError, match=r"verify: bad|verify failed"):
                _fio(path, "--verify_only=1", *words)
            os.pwrite(fd, right, place)
