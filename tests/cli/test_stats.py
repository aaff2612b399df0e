"""`unionfs stats` on real mounts, with the extension and without."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.support import kernel
from tests.support.files import read, write
from tests.support.fixtures import arena, scratch, spawners, union  # noqa: F401
from tests.support.mounts import HelperMount
from tests.support.stacks import Dir, File, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

RELAYED = "libfuse has no custom I/O: replies are copied"
SIZE = 70_000


def stats(*words, env=None, status=0):
    done = subprocess.run(
        [sys.executable, "-m", "unionfs", "stats", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == status, done
    return done.stdout if status == 0 else done.stderr


@pytest.fixture(params=["", "1"], ids=["extension", "pure"])
def root(request, scratch, union, monkeypatch):  # noqa: F811
    monkeypatch.setenv("UNIONFS_PURE", request.param)
    layers = build_stack(scratch + b"/s", [[File(b"big", size=SIZE), Dir(b"d"), File(b"d/f")]])
    return union(layers).root


def document(root):
    return json.loads(stats(root, "--json"))


def test_requests_are_counted(root):
    before = document(root)["requests"]
    for number in range(5):
        with pytest.raises(FileExistsError):
            os.mkdir(root + b"/d")
        os.mkdir(root + b"/new%d" % number)
        with pytest.raises(OSError):
            os.getxattr(root + b"/d/f", "user.none")
    after = document(root)["requests"]
    made = after["mkdir"]
    assert (made["count"], made["errors"], "mkdir" in before) == (5, 0, False)
    assert sum(made["buckets"]) == 5
    assert 0 < made["longest_ns"] <= made["total_ns"] < 5e9
    assert after["getxattr"]["errors"] >= 5


def test_copy_ups_are_counted(root):
    assert document(root)["copy_ups"] == {"files": 0, "bytes": 0}
    with open(root + b"/big", "r+b") as file:
        file.write(b"new")
    os.chmod(root + b"/d/f", 0o600)
    assert document(root)["copy_ups"] == {"files": 2, "bytes": SIZE + 10}


def test_what_a_daemon_holds(root):
    document_ = document(root)
    assert document_["nodes"] >= 1 and 3 < document_["descriptors"] < 100
    assert 5 << 20 < document_["memory_bytes"] < 200 << 20
    assert os.readlink(f"/proc/{document_['pid']}/exe") == os.path.realpath(sys.executable)


def test_the_modes_and_why(root):
    modes = {one["mode"]: (one["is"], one["because"]) for one in document(root)["modes"]}
    pure = os.environ["UNIONFS_PURE"] == "1"
    extension, because = modes["extension"]
    if pure:
        assert (extension, because) == ("not used", "UNIONFS_PURE=1")
    else:  # the machine's libfuse may be one of those that test_relay plays
        assert extension == "in use" and because in ("", RELAYED)
    assert modes["open"][0] == ("a request each" if pure else "no request")
    assert modes["data"] == ("cached", "the mount can be written")
    assert modes["readahead"][0] == ("128 KiB" if pure else "512 KiB")
    assert modes["syncing"][0].startswith("copies")
    assert modes["marks"] == ("trusted.overlay.*", "")


def test_for_people_and_for_prometheus(root):
    read(root + b"/d/f")
    said = stats(root)
    assert said.startswith(f"{os.fsdecode(root)}, for ")
    assert re.search(r"^lookup +\d+ +\d+ +[\d.]+ [mu]s ", said, re.M)
    assert "data: cached (the mount can be written)" in said
    assert max(map(len, said.splitlines())) <= 80 + len(root)
    metrics = stats(root, "--prometheus")
    label = f'mount="{os.fsdecode(root)}"'
    assert re.search(rf"^unionfs_requests_total{{{label},operation=\"lookup\"}} \d", metrics, re.M)
    assert f'le="+Inf",{label},operation="lookup"' in metrics
    assert re.search(rf"^unionfs_resident_memory_bytes{{{label}}} \d", metrics, re.M)


def test_watching_shows_what_came_meanwhile(root):
    words = [sys.executable, "-m", "unionfs", "stats", root, "--watch", "0.3"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        deadline = time.monotonic() + 20
        for number, line in enumerate(watching.stdout):
            write(root + b"/w%d" % number, b"")
            if line.startswith("create") or time.monotonic() > deadline:
                break
        watching.send_signal(signal.SIGINT)
        watching.stdout.read()
    assert line.startswith("create") and watching.returncode == 130


@pytest.mark.needs_extension
def test_passthrough_is_told(scratch, union):  # noqa: F811
    layers = build_stack(scratch + b"/s", [[File(b"f")]], writable=False)
    modes = {
        one["mode"]: one["is"]
        for one in document(union(layers, options=[b"data=passthrough"]).root)["modes"]
    }
    assert (modes["data"], modes["open"]) == ("passthrough", "a request each")


def test_mounts_that_do_not_tell(scratch, union, tmp_path):  # noqa: F811
    layers = build_stack(scratch + b"/s", [[File(b"f")]], writable=False)
    silent = union(layers, options=[b"noxattrinfo"]).root
    assert "noxattrinfo" in stats(silent, status=1)
    dead = HelperMount(layers, scratch + b"/dead")  # not by the fixture, which wants a good end
    os.kill(dead.pid, signal.SIGKILL)
    dead.wait()
    assert "daemon is gone" in stats(dead.root, status=1)
    kernel.umount(dead.root)
    assert "is not a mount point" in stats(tmp_path, status=1)
    assert "no such container" in stats("--root", tmp_path / "none", "nobody", status=1)


@pytest.mark.parametrize(
    "words", [["--prometheus", "--json"], ["--watch", "0"], ["--watch", "1", "--json"]]
)
def test_options_that_do_not_go_together(words):
    assert "unionfs: error: --" in stats("/", *words, status=2)
