"""PostgreSQL in the mount: made there, or from a layer; loaded, killed, recovered, checked."""

from __future__ import annotations

import pytest

from tests.support.examples import FULL
from tests.support.files import read
from tests.support.mounts import HelperMount
from tests.support.postgres import USER, Cluster
from tests.support.stacks import Dir, Layers, build_stack

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.usefixtures("mode"),
    pytest.mark.timeout(3600 if FULL else 300),
]

ROUNDS = 5 if FULL else 1  # each with a crash of the server and one of the daemon
SECONDS = 60 if FULL else 1  # of load before each crash: ten minutes in the full run
OWNER = {"mode": 0o700, "uid": USER, "gid": USER}


def _stack(scratch: bytes) -> Layers:
    return build_stack(
        scratch + b"/s", [[Dir(b"var/pg", **OWNER)], [Dir(b"run/pg", **OWNER)], [Dir(b"var/other")]]
    )


def _cluster(root: bytes) -> Cluster:
    return Cluster(root + b"/var/pg", root + b"/run/pg")


@pytest.fixture
def layers(scratch):
    """A stack with a database in its lowest layer, made on the plain directory."""
    made = _stack(scratch)
    lowest, above = made.lowers[-1], made.lowers[-2]
    plain = Cluster(lowest + b"/var/pg", above + b"/run/pg")
    plain.init()
    plain.start()
    try:
        plain.do("pgbench", "-i", "-q", "-s", "10" if FULL else "1")
    finally:
        plain.stop()
    return made


def _kill_daemon(mounted: HelperMount) -> None:
    mounted.expect_errors = True
    mounted.kill()
    mounted.unmount = lambda: None  # type: ignore[method-assign]


def test_made_and_used_in_the_mount(scratch, union):
    layers = _stack(scratch)
    mounted = union(layers)
    cluster = _cluster(mounted.root)
    cluster.init()
    with cluster:
        cluster.sql(
            "create table t as select n, repeat(n::text, 50) from generate_series(1, 999) n"
        )
        cluster.sql("create index on t (n)")
        cluster.stop()
    mounted.unmount()
    mounted = union(layers)
    cluster = _cluster(mounted.root)
    cluster.do("pg_checksums", "--check", "-D", cluster.data)
    with cluster:
        cluster.do("pg_amcheck", "--install-missing", "--heapallindexed", "--database=postgres")
        assert cluster.sql("select sum(n), count(*) from t") == "499500|999"
        cluster.stop()


def test_killed_under_load(union, layers):
    """Server and daemon are killed in turn: what was acknowledged is there, and adds up."""
    control = layers.lowers[-1] + b"/var/pg/global/pg_control"
    before = read(control)
    mounted = union(layers)
    done = 0
    for kills_daemon in (False, True) * ROUNDS:
        with _cluster(mounted.root) as cluster:
            bench = cluster.bench(seconds=SECONDS + 60)
            bench.await_progress(SECONDS)
            if kills_daemon:
                _kill_daemon(mounted)
            cluster.kill()
            before_crash, done = done, done + bench.end()
        assert done > before_crash
        if kills_daemon:
            mounted = union(layers)
        with _cluster(mounted.root) as cluster:
            assert "automatic recovery in progress" in "".join(cluster.log)
            done = _check(cluster, done, bench.clients)
            cluster.stop()
    cluster.do("pg_checksums", "--check", "-D", cluster.data)
    assert read(control) == before, "the lower layer was written to"


def _check(cluster: Cluster, acknowledged: int, under_way: int) -> int:
    """Check the database: all payments that were acknowledged, and those under way or not."""
    found = cluster.check()
    assert acknowledged <= found <= acknowledged + under_way
    return found
