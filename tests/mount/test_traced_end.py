"""How a trace of a mount's requests ends: with the mount, its daemon, or without seeing it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable

import pytest

from tests.support import kernel
from tests.support.mounts import HelperMount
from tests.support.stacks import Dir, Layers, build_stack
from tests.support.traced import told
from unionfs.container import tracing
from unionfs.container.tracing import Batch, read_events

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


@pytest.fixture
def layers(scratch: bytes) -> Layers:
    return build_stack(scratch + b"/s", [[Dir(b"d")], [Dir(b"e")]])


@pytest.fixture(params=[pytest.param("", marks=pytest.mark.needs_extension), "1"])
def mount(request: pytest.FixtureRequest, union: Callable) -> Callable:
    """Mount with the extension and, again, without."""
    return lambda layers: union(layers, env={"UNIONFS_PURE": request.param})


def test_it_ends_with_the_mount(
    union: Callable, layers: Layers, traced: Callable, scratch: bytes
) -> None:
    mounted = union(layers)
    batches = traced(mounted.root)
    os.mkdir(mounted.root + b"/new")
    assert told(batches)
    mounted.unmount()
    assert not any(batch != Batch([], 0) for batch in batches)
    killed = HelperMount(layers, scratch + b"/killed")
    batches = traced(killed.root)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert [batch for batch in batches if batch != Batch([], 0)] == [Batch([], 0, torn=True)]
    kernel.umount(killed.root)


def test_what_is_done_before_the_unmount_is_told_after_it(
    mount: Callable, layers: Layers, traced: Callable
) -> None:
    mounted = mount(layers)
    batches = traced(mounted.root)
    for number in range(100):
        os.mkdir(mounted.root + b"/m%d" % number)
    mounted.unmount()
    rest = list(batches)
    made = [e.path for batch in rest for e in batch.events if e.operation == "mkdir"]
    assert made == [f"/m{number}" for number in range(100)]
    assert not any(batch.lost or batch.torn for batch in rest)


def test_who_stops_reading_before_the_unmount_is_told_how_many_he_lost(
    union: Callable, layers: Layers, traced: Callable
) -> None:
    mounted = union(layers)
    batches = traced(mounted.root)
    absent = mounted.root + b"/d/%0250d"
    count = 30_000
    for number in range(count):
        assert not os.path.exists(absent % number)
    mounted.unmount()
    rest = list(batches)
    found = sum(event.operation == "lookup" for batch in rest for event in batch.events)
    assert found > 20_000
    assert found + sum(batch.lost for batch in rest) >= count > found


def test_without_a_look_at_the_daemon_the_end_is_said_to_be_missing(
    union: Callable, layers: Layers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "MEMORY", "another")
    mounted = union(layers)
    batches = read_events(mounted.root)
    assert next(batches) == Batch([], 0)
    os.mkdir(mounted.root + b"/new")
    assert "mkdir" in [event.operation for event in told(batches)]
    mounted.unmount()
    assert list(batches) == [Batch([], 0, torn=True)]


@pytest.mark.needs_extension
@pytest.mark.parametrize("where", ["elsewhere", "on the mount"])
def test_who_executes_another_program_is_called_by_the_new_name(
    union: Callable, layers: Layers, traced: Callable, where: str
) -> None:
    """A name is read once for requests that follow at once; to execute a program takes longer."""
    root = os.fsdecode(union(layers).root)
    program = shutil.which("stat")
    assert program is not None
    if where == "on the mount":
        program = shutil.copy(program, f"{root}/stat")
    batches = traced(os.fsencode(root))
    for number in range(20):
        script = f"test -e {root}/d/sh{number}; exec {program} {root}/d/stat{number}"
        subprocess.run(["sh", "-c", script], check=False, stderr=subprocess.DEVNULL)
    asked = [(e.path, e.command) for e in told(batches) if e.operation == "lookup" and e.errno]
    assert asked == [
        (f"/d/{name}{number}", name) for number in range(20) for name in ("sh", "stat")
    ]
