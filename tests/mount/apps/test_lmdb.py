"""LMDB in the mount: a database that is read by a shared mapping of a file that is copied up.

Readers map the file before its copy-up and must see what is committed after it; locks live in
shared mappings as well. Readable through write(2) or, with ``writemap``, written by mapping.
"""

from __future__ import annotations

import os
import subprocess
import sys

import lmdb
import pytest

from tests.support.examples import FULL
from tests.support.files import read
from tests.support.stacks import Dir, build_stack

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.parametrize("writemap", [False, True], ids=["write", "writemap"]),
]

MAP_SIZE = 1 << 30  # bytes; the file is as long as what it has held while readers looked back
KEYS = 5_000 if FULL else 2_000
STEPS = 500 if FULL else 40  # transactions of each process
CRASHES = 20 if FULL else 2


def _key(n: int) -> bytes:
    return b"%08d" % n


def _open(root: bytes, *, writemap: bool = False, readonly: bool = False) -> lmdb.Environment:
    path = os.fsdecode(root + b"/var/lmdb")
    return lmdb.open(path, map_size=MAP_SIZE, writemap=writemap, readonly=readonly)


def _check(env: lmdb.Environment) -> int:
    """Read everything; return the counter. The tree's own counts must agree with a walk."""
    with env.begin() as txn:
        count = sum(1 for key, value in txn.cursor() if value.startswith(key))
        assert count == txn.stat()["entries"] - 1
        assert count == KEYS
        return int(txn.get(b"counter"))


@pytest.fixture
def layers(scratch):
    """A stack with a database in its lower layer."""
    made = build_stack(scratch + b"/s", [[Dir(b"var/lmdb")], [Dir(b"other")]])
    with _open(made.lowers[-1]) as env, env.begin(write=True) as txn:
        for n in range(KEYS):
            txn.put(_key(n), _key(n) * 12)
        txn.put(b"counter", b"0")
    return made


_WRITER = """
import lmdb, sys
path, writemap, steps, keys, stop = sys.argv[1], sys.argv[2] == "1", *map(int, sys.argv[3:])
env = lmdb.open(path, map_size=1 << 30, writemap=writemap)
for step in range(steps):
    with env.begin(write=True) as txn:
        value = int(txn.get(b"counter")) + 1
        txn.put(b"counter", b"%d" % value)
        for n in range(value % 17, keys, 17):
            key = b"%08d" % n
            txn.put(key, key + b"%d " % value * (value % 40))
        if step == stop:
            print("half", flush=True)
            sys.stdin.read()
print("done", flush=True)
"""


def _writer(root: bytes, *, writemap: bool, steps: int, stop: int = -1) -> subprocess.Popen[bytes]:
    numbers = [str(number) for number in (steps, KEYS, stop)]
    words = [sys.executable, "-c", _WRITER, root + b"/var/lmdb", "01"[writemap], *numbers]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.usefixtures("mode")
def test_readers_from_before_the_copy_up(union, layers, writemap):
    """Each read transaction is a snapshot that is whole; later ones are never older."""
    data = layers.lowers[-1] + b"/var/lmdb/data.mdb"
    before = read(data)
    mounted = union(layers)
    with _open(mounted.root, readonly=True) as reader:
        assert _check(reader) == 0
        writers = [_writer(mounted.root, writemap=writemap, steps=STEPS) for _ in range(2)]
        seen = []
        while (value := _check(reader)) != 2 * STEPS:
            seen.append(value)
            assert value < 2 * STEPS
            assert all(writer.poll() in (None, 0) for writer in writers)
        assert seen == sorted(seen)
        assert [writer.communicate(timeout=60)[0] for writer in writers] == [b"done\n"] * 2
    mounted.unmount()
    with _open(union(layers).root) as env:
        assert _check(env) == 2 * STEPS
    assert read(data) == before, "the lower layer was written to"


@pytest.mark.parametrize("victim", ["writer", "daemon"])
def test_killed_in_the_middle(union, layers, writemap, victim):
    """In a transaction: what was committed is there. (By mapping, only msync is a promise.)"""
    mounted = union(layers)
    committed = 0
    for crash in range(1, CRASHES + 1):
        with _writer(mounted.root, writemap=writemap, steps=crash + 1, stop=crash) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"half\n"
            committed += crash
            if victim == "daemon":
                mounted.expect_errors = True
                mounted.kill()
                mounted.unmount = lambda: None
            writer.kill()
        if victim == "daemon":
            mounted = union(layers)
        with _open(mounted.root, writemap=writemap) as env:
            env.reader_check()
            assert _check(env) == committed
