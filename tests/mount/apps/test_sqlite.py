"""SQLite databases that came with an image: rewritten, locked, mapped, killed, and checked.

fuse-overlayfs and others have corrupted rpm and SQLite databases after copy-up.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from tests.support.examples import FULL
from tests.support.stacks import Dir, build_stack

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.parametrize("journal", ["delete", "wal"]),
]

ROWS = 20_000
TURNS = 2_000 if FULL else 100  # of each process
CRASHES = 20 if FULL else 2


@pytest.fixture
def layers(scratch):
    """A stack with a database of some megabytes in its lower layer."""
    made = build_stack(scratch + b"/s", [[Dir(b"var")], [Dir(b"other")]])
    with sqlite3.connect(os.fsdecode(made.lowers[-1] + b"/var/db")) as db:
        db.execute("create table t (id integer primary key, text text)")
        db.executemany("insert into t (text) values (?)", ((f"row {n}" * 10,) for n in range(ROWS)))
    db.close()
    return made


def _open(mounted) -> sqlite3.Connection:
    return sqlite3.connect(os.fsdecode(mounted.root + b"/var/db"), timeout=30)


def _sound(db: sqlite3.Connection) -> bool:
    return db.execute("pragma integrity_check").fetchall() == [("ok",)]


@pytest.mark.usefixtures("mode")
def test_rewritten(union, layers, journal):
    mounted = union(layers)
    before = _open(mounted)
    assert before.execute("select count(*) from t").fetchone() == (ROWS,)  # pages are cached
    db = _open(mounted)
    assert db.execute(f"pragma journal_mode={journal}").fetchone() == (journal,)
    for step in range(5):
        with db:
            db.execute("update t set text = text || ? where id % 5 = ?", (f" v{step}", step))
        assert before.execute(
            "select count(*) from t where text like ?", (f"% v{step}",)
        ).fetchone() == (ROWS // 5,)
    with db:
        db.execute("delete from t where id > ?", (ROWS // 2,))
    db.execute("vacuum")
    assert _sound(db)
    assert _sound(before)
    db.close()
    before.close()
    mounted.unmount()
    again = _open(union(layers))
    assert _sound(again)
    assert again.execute("select count(*) from t").fetchone() == (ROWS // 2,)
    again.close()


@pytest.mark.usefixtures("mode")
def test_two_processes_take_turns(union, layers, journal):
    """Locks (and WAL's shared memory) hold between processes: no increment is lost."""
    mounted = union(layers)
    db = _open(mounted)
    db.execute(f"pragma journal_mode={journal}")
    with db:
        db.execute("create table n (value integer)")
        db.execute("insert into n values (0)")
    db.close()
    program = textwrap.dedent(
        """
        import sqlite3, sys
        db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
        for _ in range(int(sys.argv[2])):
            db.execute("begin immediate")
            db.execute("update n set value = value + 1")
            db.execute("commit")
        """
    )
    words = [sys.executable, "-c", program, mounted.root + b"/var/db", str(TURNS)]
    workers = [subprocess.Popen(words) for _ in range(3)]
    assert [worker.wait(280) for worker in workers] == [0, 0, 0]
    db = _open(mounted)
    assert db.execute("select value from n").fetchone() == (3 * TURNS,)
    assert _sound(db)
    db.close()


_WRITER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
db.execute("pragma cache_size=5")  # changed pages go to the files before the commit
for step in range(1000):
    db.execute("begin immediate")
    db.execute("update t set text = ? where id % 7 = ?", ("w" * 90, step % 7))
    db.execute("insert into done values (?)", (step,))
    print("half", flush=True)
    if len(sys.argv) > 2 and step == int(sys.argv[2]):
        sys.stdin.read()
    db.execute("commit")
    print(step, flush=True)
"""


@pytest.mark.parametrize("victim", ["writer", "daemon"])
def test_killed_in_the_middle(union, layers, journal, victim):
    """In a transaction whose pages are in the files already: all that was committed, no more."""
    mounted = union(layers)
    db = _open(mounted)
    db.execute(f"pragma journal_mode={journal}")
    db.execute("create table done (step integer)")
    db.close()
    committed = 0
    for crash in range(1, CRASHES + 1):
        words = [sys.executable, "-c", _WRITER, mounted.root + b"/var/db", str(crash)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(2 * crash + 1)]
            assert lines[-1] == b"half\n"
            committed += crash
            if victim != "writer":
                mounted.expect_errors = True
                mounted.kill()
                mounted.unmount = lambda: None
            writer.kill()
        if victim != "writer":
            mounted = union(layers)
        db = _open(mounted)
        assert _sound(db)
        assert db.execute("select count(*) from done").fetchone() == (committed,)
        assert db.execute("select count(*) from t").fetchone() == (ROWS,)
        db.close()
