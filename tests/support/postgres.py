"""A PostgreSQL server in a directory: made, started, loaded, killed, and checked.

It refuses to run as root, so everything is done as ``nobody``, or whoever the directory belongs to.
A server's processes all hold its standard error; the end of that pipe is how it is known that the
last of them is gone.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from typing import TextIO

from tests.support import leftovers

USER = 65534  # nobody; its own name is what initdb would ask for, so -U says another
_SEGMENT_LINE = 6  # of postmaster.pid: key and number (miscadmin.h, LOCK_FILE_LINE_SHMEM_KEY)
_READY = "database system is ready to accept connections"
_SETTINGS = {
    "listen_addresses": "",
    "dynamic_shared_memory_type": "mmap",  # shared mappings of files in the data directory
    "shared_buffers": "16MB",  # small, so that pages go to the files and come back
    "max_wal_size": "32MB",
    "min_wal_size": "4MB",
    "checkpoint_timeout": "30s",
    "autovacuum_naptime": "1s",
    "bgwriter_delay": "10ms",
}


def _program(name: str) -> str:
    """Return the path of a server's program, which Debian keeps out of the usual PATH."""
    versions = glob.glob(f"/usr/lib/postgresql/*/bin/{name}")
    newest = max(versions, key=lambda path: float(path.split("/")[4]), default=None)
    found = newest or shutil.which(name)
    assert found, f"{name} is not there: install PostgreSQL's server"
    return found


def _children(parent: int) -> list[int]:
    """Return the processes whose parent is *parent*."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat", "rb") as stat:
                fields = stat.read().rpartition(b")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[1]) == parent:
            found.append(int(entry))
    return found


class Cluster:
    """The server whose data is in *data*, with its socket in *run*; both belong to *user*."""

    def __init__(self, data: bytes, run: bytes, user: int = USER) -> None:
        self.data = data
        self.run = run
        self._user = user
        self.log: list[str] = []
        self._server: subprocess.Popen[str] | None = None
        self._drain: threading.Thread | None = None
        self._segment = ""  # the number of the System V shared memory that it is locked by
        self._way = ""  # a short way to *run*, while the server lives
        self._env = {
            **{name: os.environ[name] for name in ("PATH", leftovers.MARK) if name in os.environ},
            "LC_ALL": "C.UTF-8",
            "PGUSER": "test",
            "PGDATABASE": "postgres",
            "HOME": "/nonexistent",
        }

    def _start(self, *words: str | bytes, **how) -> subprocess.Popen[str]:
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        return subprocess.Popen(
            [_program(os.fsdecode(words[0])), *words[1:]],
            user=self._user,
            group=self._user,
            extra_groups=[],
            umask=0o077,
            cwd="/",
            env=self._env,
            stdin=subprocess.DEVNULL,
            text=True,
            **how,
        )

    def do(self, *words: str | bytes) -> str:
        """Run a program of PostgreSQL's to its end; return what it printed."""
        process = self._start(*words)
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0, f"{words}: {out}{error}{self._said()}"
        return out

    def _said(self) -> str:
        return "\n--- server:\n" + "".join(self.log[-40:])

    def init(self) -> None:
        """Make the database cluster, with checksums on its pages."""
        self.do("initdb", "-k", "-U", "test", "-A", "trust", "--wal-segsize=1", "-D", self.data)

    def start(self) -> None:
        """Start the server; return when it answers (crash recovery included)."""
        self._make_way()
        words = ("postgres", "-D", self.data, "-k", f"{self._way}/run")
        settings = [word for pair in _SETTINGS.items() for word in ("-c", "=".join(pair))]
        self._server = self._start(*words, *settings, stdout=subprocess.DEVNULL)
        errors = self._server.stderr
        assert errors is not None
        for line in errors:
            self.log.append(line)
            if _READY in line:
                break
        else:
            errors.close()
            self._server.wait(60)
            shutil.rmtree(self._way)
            raise AssertionError(f"the server did not start{self._said()}")
        lock = self.do("cat", self.data + b"/postmaster.pid")
        self._segment = lock.split("\n")[_SEGMENT_LINE].split()[1]
        self._drain = threading.Thread(target=self._listen, args=(errors,), daemon=True)
        self._drain.start()

    def _make_way(self) -> None:
        """Make a link to where the socket is, in /tmp: its address holds 107 bytes (unix(7))."""
        self._way = tempfile.mkdtemp(prefix="pg-", dir="/tmp")
        os.chmod(self._way, 0o755)
        os.symlink(self.run, self._way + "/run")
        self._env["PGHOST"] = self._way + "/run"

    def _listen(self, errors: TextIO) -> None:
        with errors:
            self.log.extend(errors)

    def stop(self) -> None:
        """Let the server write everything down and end."""
        assert self._server is not None
        self._server.send_signal(signal.SIGINT)
        self._gone()
        assert self._server.returncode == 0, self._said()

    def kill(self) -> None:
        """Kill every process of the server; return when they are gone.

        Each has a session of its own, and one that waits for a lock of another that is dead would
        wait for ever: so each is killed by its number, while the parent cannot make more.
        """
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)
        for pid in _children(self._server.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has given up by itself
        self._server.kill()
        self._gone()
        # Its successor would remove it, but only where st_dev is the same as before. (One that gave
        # up by itself has removed it: then there is nothing to do.)
        subprocess.run(["ipcrm", "-m", self._segment], check=False, stderr=subprocess.DEVNULL)

    def _gone(self) -> None:
        assert self._server is not None
        assert self._drain is not None
        self._server.wait(60)
        self._drain.join(60)
        assert not self._drain.is_alive(), "some process of the server lives on"
        shutil.rmtree(self._way)

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, kind, error, trace) -> None:
        assert self._server is not None
        if kind is not None and self._server.returncode is None:
            self.kill()
            print(self._said())

    def sql(self, text: str) -> str:
        """Return the answer to *text*, a line for each row."""
        return self.do("psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", "-c", text).strip()

    def bench(self, *, seconds: int, clients: int = 2) -> Bench:
        """Start pgbench's bank of accounts."""
        words = ("pgbench", "-n", "-P", "1", "-c", str(clients), "-T", str(seconds))
        return Bench(self._start(*words), clients)

    def check(self) -> int:
        """Check heaps, indexes and the bank's sums; return how many payments there were."""
        self.do("pg_amcheck", "--install-missing", "--heapallindexed", "--database=postgres")
        sums = "select sum({0}balance) from pgbench_{1}"
        total = "select coalesce(sum(delta), 0) from pgbench_history"
        tables = ("accounts", "branches", "tellers")
        seen = {self.sql(sums.format(name[0], name)) for name in tables}
        assert seen == {self.sql(total)}, "the accounts do not add up"
        return int(self.sql("select count(*) from pgbench_history"))


class Bench:
    """A pgbench that is running."""

    def __init__(self, process: subprocess.Popen[str], clients: int) -> None:
        self._process = process
        self.clients = clients

    def await_progress(self, seconds: int) -> None:
        """Return when it says that it has been running for *seconds*."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if line.startswith("progress:"):
                seconds -= 1
            if not seconds:
                return
        raise AssertionError("pgbench ended too early")

    def end(self) -> int:
        """Wait for its end; return how many payments it was told to be done."""
        out, error = self._process.communicate(timeout=900)
        found = re.search(r"transactions actually processed: (\d+)", out)
        assert found, f"{out}{error}"
        return int(found[1])
