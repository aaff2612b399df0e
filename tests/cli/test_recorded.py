"""A container mounted with ``-o record``, a program run in it, and the recording of that."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Cli

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

RUN = ("run", "probe", "--", "sh", "-c")
READS = "cat /etc/group; echo more >>/etc/passwd; cat /etc/none; true"


@pytest.fixture
def recorded(cli: Cli, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A recording of the container ``probe``, mounted so that all is heard of, in ``file``."""
    cli("create", "tiny", "--name", "probe")
    cli("mount", "probe", "-o", "record")
    file = tmp_path / "file"
    trace = cli.start("trace", "probe", "--record", str(file), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not (file.exists() and file.stat().st_size):
        assert trace.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    yield trace
    trace.kill()
    trace.communicate()


def ended(cli: Cli, trace: subprocess.Popen[str], file: Path) -> dict:
    """Unmount, which ends the *trace* too; return what it recorded."""
    cli("umount", "probe")
    _, said = trace.communicate(timeout=30)
    assert (trace.returncode, " lost" in said, "missing" in said) == (0, False, False), said
    assert " requests recorded in " in said and said.endswith(" is unmounted\n")
    found: dict = cli.json("trace", "report", str(file))
    assert (found["subject"], found["complete"], found["lost"]) == ("container probe", True, 0)
    return found


@pytest.mark.needs_extension
def test_what_a_program_reads_is_recorded_each_time(recorded, cli, tmp_path) -> None:
    modes = {
        one["mode"]: (one["is"], one["because"]) for one in cli.json("stats", "probe")["modes"]
    }
    assert modes["open"] == ("a request each", "record")
    assert modes["data"] == ("cached until the next open", "record")
    for _ in range(3):
        done = cli.run(*RUN, READS)
        assert done.returncode == 0 and done.stderr.count("\n") == 1  # of /etc/none
    found = ended(cli, recorded, tmp_path / "file")
    (layer,) = [one for one in found["layers"] if one["layer"] == "layer 1"]
    group = {one["path"]: one for one in layer["paths"]}["/etc/group"]
    size = len(cli("cat", "tiny", "/etc/group"))
    assert group["opens"] >= 3  # the runtime reads it as well
    assert (group["bytes"], group["bytes_in_all"]) == (size, group["opens"] * size)
    assert found["not_seen"] == []
    changed = {one["path"]: (one["what"], one["bytes_written"]) for one in found["changed"]}
    assert changed["/etc/passwd"] == (["written"], 15)


def test_the_recording_goes_to_the_end_of_the_mount(recorded, cli, tmp_path) -> None:
    """Nothing stops the trace but the unmount, at once after the last request."""
    merged = cli.container("probe") / "merged"
    names = [f"/{number} was here" for number in range(50)]
    for name in names:
        assert not os.path.exists(f"{merged}{name}")
    found = ended(cli, recorded, tmp_path / "file")
    said = cli("trace", "report", str(tmp_path / "file"), "--requests", "--json")
    requests = [json.loads(line) for line in said.splitlines()]
    assert [one["path"] for one in requests if "was here" in one["path"]] == names
    assert found["requests"] == len(requests)


def test_it_is_refused_with_what_hides_reads(cli, target) -> None:
    words = ("mount", "--image", "tiny", str(target), "-o", "record,data=passthrough")
    assert cli.fails(*words) == "option record is refused with data=passthrough: unseen reads"
    assert not target.is_mount()
