"""A client at full speed is recorded and added up without a loss, in what the mount keeps."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_trace import Trace
from tests.support.command import Cli
from tests.support.fixtures import arena, scratch, spawners, union  # noqa: F401
from tests.support.stacks import Dir, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_extension]

COUNT = 150_000  # twice what is kept for one who does not ask


def test_nothing_is_lost_of_one_busy_client(
    cli: Cli,
    union: Callable,  # noqa: F811
    scratch: bytes,  # noqa: F811
    tmp_path: Path,
) -> None:
    root = os.fsdecode(union(build_stack(scratch + b"/s", [[Dir(b"d")], [Dir(b"e")]])).root)
    file = str(tmp_path / "recorded")
    trace = Trace(cli, root, "--summary", "--json", "--record", file)
    assert os.getpriority(os.PRIO_PROCESS, trace.process.pid) > os.getpriority(os.PRIO_PROCESS, 0)
    for number in range(COUNT):
        assert not os.access(f"{root}/d/{number:06}", os.F_OK)
    found = json.loads(trace.end())
    assert found["lost"] == 0
    assert found["requests"]["lookup"]["count"] >= COUNT
    report = cli.json("trace", "report", file)
    assert (report["complete"], report["lost"]) == (True, 0)
    assert report["requests"] == sum(one["count"] for one in found["requests"].values())
    said = cli("trace", "report", file, "--requests", "--json").splitlines()
    paths = [json.loads(line)["path"] for line in said[: COUNT // 10]]
    asked = [path for path in paths if path.startswith("/d/")]
    assert asked == [f"/d/{number:06}" for number in range(len(asked))] != []
