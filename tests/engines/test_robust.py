"""An engine or a daemon that is killed, and a container whose filesystem is in use."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from tests.support.engine_checks import TINY
from tests.support.engines import Engine, daemons, soon
from unionfs.syscalls.mount import MNT_DETACH, umount

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.usefixtures("nothing_mounted"),
]

SOON = 1.0  # seconds that a daemon may outlive its mount


def fails_with(path: bytes) -> int:
    try:
        os.listdir(path)
    except OSError as error:
        return error.errno or 0
    return 0


def asleep(engine: Engine, name: str) -> bool:
    """Whether the container's program has loaded all it needs: until then it dies with its root."""
    pid = engine.podman("inspect", "--format", "{{.State.Pid}}", name).strip()
    return "nanosleep" in Path("/proc", pid, "wchan").read_text()


def test_the_daemon_is_killed_under_a_container(engine: Engine):
    """Its programs get ENOTCONN; Podman removes it, and starts another container."""
    engine.podman("run", "-d", "--name", "web", TINY, "sleep", "1000")
    assert soon(lambda: asleep(engine, "web"), 10)
    (point,) = engine.mounts()
    (daemon,) = daemons(point)
    os.kill(daemon, signal.SIGKILL)
    assert soon(lambda: fails_with(point) == errno.ENOTCONN, 10)
    assert "not connected" in engine.run("podman", "exec", "web", "ls", "/", status=255).stderr
    engine.podman("rm", "--force", "--time", "0", "web")
    assert engine.mounts() == []
    assert engine.podman("run", "--rm", TINY, "cat", "/data/one") == "one\n"


def test_a_container_starts_again_after_its_daemon_was_killed(engine: Engine):
    engine.podman("run", "-d", "--name", "web", TINY, "sleep", "1000")
    engine.sh("web", "echo kept >/data/new")
    (point,) = engine.mounts()
    (daemon,) = daemons(point)
    os.kill(daemon, signal.SIGKILL)
    engine.podman("stop", "--time", "0", "web")
    engine.podman("start", "web")
    assert engine.sh("web", "cat /data/new") == "kept\n"


def test_the_daemon_ends_with_its_mount(engine: Engine):
    engine.podman("create", "--name", "box", TINY)
    point = os.fsencode(engine.podman("mount", "box").strip())
    assert len(daemons(point)) == 1
    engine.podman("umount", "box")
    assert soon(lambda: not daemons(point), SOON)


def test_unmounted_while_busy(engine: Engine):
    """What is open can be read to its end; then the daemon ends as well."""
    engine.podman("create", "--name", "box", TINY)
    point = os.fsencode(engine.podman("mount", "box").strip())
    held = os.open(point + b"/data/one", os.O_RDONLY)
    engine.podman("umount", "--force", "box")
    assert engine.mounts() == []
    assert os.read(held, 100) == b"one\n"
    os.close(held)
    assert soon(lambda: not daemons(point), SOON)


@pytest.mark.parametrize("delay", [0.02, 0.1, 0.2, 0.3])
def test_the_engine_is_killed_in_the_middle_of_a_mount(engine: Engine, delay):
    """However far it came, the next command starts the container, and nothing is left of it."""
    engine.podman("create", "--name", "box", TINY, "cat", "/data/one")
    killed = engine.run("timeout", "-s", "KILL", f"{delay}", "podman", "mount", "box", status=None)
    assert killed.returncode in (0, 137, -signal.SIGKILL)
    assert engine.podman("start", "--attach", "box") == "one\n"
    engine.podman("umount", "--force", "box")
    for point in engine.mounts():
        umount(point, MNT_DETACH)
        raise AssertionError(f"left mounted: {point!r}")
