"""PostgreSQL in an ordinary user's mount: made there, loaded, killed, recovered, checked.

As ``tests/mount/apps/test_postgres.py``, with owners as they are on the disk, and beside the files.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.examples import FULL
from tests.support.ordinary import GID, UID, User, mounted
from tests.support.postgres import Cluster

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

ROUNDS = 5 if FULL else 1  # each with a crash of the server and one of the daemon
# Of load before each crash; ten minutes in the full run, and two where owners are beside the files.
SECONDS = {"": 60, ",xattr_permissions=2": 12} if FULL else {",xattr_permissions=2": 1}
KEPT = "user.containers.override_stat"


@pytest.fixture
def place(user: User, tmp_path: Path) -> Path:
    """Return the user's layer, with a place for a database, and what else a mount needs.

    The server looks whether its directory is its user's; so it has to say where owners are kept.
    """
    made = user.home / tmp_path.name
    for name in ("lower/pg", "lower/run", "upper", "work", "merged"):
        (made / name).mkdir(parents=True)
    (made / "lower/pg").chmod(0o700)
    os.setxattr(made / "lower/pg", KEPT, f"{UID}:{GID}:0700:dir".encode())
    subprocess.run(["chown", "-R", f"{UID}:{GID}", made], check=True)
    return made


def _cluster(merged: Path) -> Cluster:
    return Cluster(os.fsencode(merged / "pg"), os.fsencode(merged / "run"), UID)


@pytest.mark.timeout(3600 if FULL else 300)
@pytest.mark.parametrize("options", SECONDS)
def test_killed_under_load(user: User, place: Path, options: str) -> None:
    """Server and daemon are killed in turn: what was acknowledged is there, and adds up."""
    with mounted(user, place, options) as merged:
        _cluster(merged).init()
        with _cluster(merged) as cluster:
            cluster.do("pgbench", "-i", "-q", "-s", "10" if FULL else "1")
            cluster.stop()
    done = 0
    for kills_daemon in (False, True) * ROUNDS:
        with (
            mounted(user, place, options, killed=kills_daemon) as merged,
            _cluster(merged) as cluster,
        ):
            bench = cluster.bench(seconds=SECONDS[options] + 60)
            bench.await_progress(SECONDS[options])
            if not kills_daemon:
                cluster.kill()
        if kills_daemon:
            cluster.kill()
        acknowledged = done + bench.end()
        assert acknowledged > done
        with mounted(user, place, options) as merged:
            with _cluster(merged) as cluster:
                assert "automatic recovery in progress" in "".join(cluster.log)
                done = cluster.check()
                cluster.stop()
            cluster.do("pg_checksums", "--check", "-D", cluster.data)
        assert acknowledged <= done <= acknowledged + bench.clients
