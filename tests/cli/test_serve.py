"""The resident spawner: mounts through it are those that the callers themselves would have made."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.command import REPO, WORD, Cli
from unionfs.daemon import client, resident

pytestmark = pytest.mark.needs_fuse

_INHERITED = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(sys.argv[1])
listener.listen()
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "unionfs", "serve"])
"""


class Spawner:
    """A spawner at ``path``; it lives elsewhere than its callers."""

    def __init__(self, path: Path, words: list[str]) -> None:
        self.path = path
        env = {**os.environ, "UNIONFS_SERVE": str(path), "PYTHONPATH": REPO}
        self.process = subprocess.Popen(words, cwd="/", env=env, stderr=subprocess.PIPE, text=True)
        self.until(lambda: _listens(path))

    def until(self, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20
        while not done():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def children(self) -> list[str]:
        pid = self.process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    def end(self) -> None:
        self.process.terminate()
        _, said = self.process.communicate(timeout=20)
        assert (self.process.returncode, said) == (0, "")


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        return probe.connect_ex(str(path)) == 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir(0o700)
    return tmp_path / "run" / "serve"


@pytest.fixture
def spawner(path: Path) -> Iterator[Spawner]:
    made = Spawner(path, [*WORD, "serve"])
    yield made
    made.end()
    assert not path.exists()


@pytest.fixture
def asking(spawner: Spawner) -> dict[str, str]:
    """The environment of those who ask the spawner."""
    return {**os.environ, "UNIONFS_SERVE": str(spawner.path), "PYTHONPATH": REPO}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """A directory with lower, upper and work directories and a mount point in it."""
    for name in ("low", "up", "work", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "low" / "file").write_text("content")
    yield tmp_path
    point = os.fsencode(tmp_path / "merged")
    if client.is_mount_point(point):
        client.unmount(point, lazy=True)


def _mount(here: Path, env: dict[str, str], **options: object) -> subprocess.CompletedProcess[str]:
    """Mount with paths that count from the caller's directory."""
    words = [*WORD, "-o", "lowerdir=low,upperdir=up,workdir=work,unheard-of", "merged"]
    return subprocess.run(
        words, cwd=here, env=env, capture_output=True, text=True, timeout=60, **options
    )  # type: ignore[call-overload, no-any-return]


def _daemon(here: Path) -> int:
    """Return the process that has the upper directory open."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            links = [os.readlink(f"/proc/{name}/fd/{fd}") for fd in os.listdir(f"/proc/{name}/fd")]
        except OSError:
            continue
        if str(here / "up") in links:
            return int(name)
    raise AssertionError("there is no daemon")


def _is_forked_from(pid: int, spawner: Spawner) -> bool:
    """By its words, which a fork keeps."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-2] == b"serve"


def test_a_mount_is_the_caller_s_own(spawner: Spawner, asking: dict[str, str], here: Path) -> None:
    """Its directory, its streams, its environment and its limit of descriptors."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = (64, min(500, limits[1]))
    done = _mount(here, asking, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, few))
    said = "unknown argument ignored: unheard-of\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", said)
    assert (here / "merged" / "file").read_text() == "content"
    (here / "merged" / "new").write_text("x")
    assert (here / "up" / "new").read_text() == "x"
    daemon = _daemon(here)
    assert _is_forked_from(daemon, spawner)
    assert resource.prlimit(daemon, resource.RLIMIT_NOFILE) == (few[1], few[1])
    assert spawner.children() == []  # it waits for none
    client.unmount(os.fsencode(here / "merged"))
    assert client.wait_gone(daemon)


def test_a_container_and_a_failure(asking: dict[str, str], cli: Cli, target: Path) -> None:
    cli("create", "tiny", "--name", "one")
    env = {**cli.env, **asking}
    assert cli("mount", "one", str(target), env=env) == f"{target}\n"
    assert (target / "bin/sh").exists()
    again = cli.fails("mount", "one", str(target), env=env)
    assert again == f"container one is already mounted at {target}"
    cli("umount", "one")
    assert "no such container: two" in cli.fails("mount", "two", env=env)


def test_who_is_elsewhere_does_it_himself(
    spawner: Spawner, asking: dict[str, str], here: Path
) -> None:
    """In another mount namespace the spawner's mount would not be seen."""
    script = 'python=$1; shift; "$@" && cat merged/file && umount merged'
    words = [*WORD, "-o", "lowerdir=low,upperdir=up,workdir=work", "merged"]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script, "sh", sys.executable, *words],
        cwd=here, env=asking, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "content", "")


@pytest.mark.parametrize("gone", ["never there", "killed", "other version"])
def test_without_a_spawner_it_is_mounted_all_the_same(
    here: Path, path: Path, gone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {**os.environ, "UNIONFS_SERVE": str(path), "PYTHONPATH": REPO}
    made = None if gone == "never there" else Spawner(path, [*WORD, "serve"])
    if made is not None and gone == "killed":
        made.process.kill()
        made.process.communicate()
        assert path.exists()
    if gone == "other version":
        monkeypatch.setenv("UNIONFS_SERVE", str(path))
        monkeypatch.setattr(resident, "__version__", "0.0")
        assert resident.ask(["unionfs", "--version"]) is None
    assert _mount(here, env).returncode == 0
    assert (here / "merged" / "file").read_text() == "content"
    if gone == "killed":
        made = Spawner(path, [*WORD, "serve"])  # takes the dead one's place
    if made is not None:
        made.end()


def test_the_mounts_go_on_when_it_ends(path: Path, here: Path) -> None:
    made = Spawner(path, [*WORD, "serve"])
    _mount(here, {**os.environ, "UNIONFS_SERVE": str(path), "PYTHONPATH": REPO})
    daemon = _daemon(here)
    assert _is_forked_from(daemon, made)
    made.end()
    assert (here / "merged" / "file").read_text() == "content"
    client.unmount(os.fsencode(here / "merged"))
    assert client.wait_gone(daemon)


def test_there_is_one(spawner: Spawner, path: Path, tmp_path: Path) -> None:
    cli = Cli(tmp_path / "store")
    said = cli.fails("serve", "--socket", str(path))
    assert said == f"a spawner listens at {path} already"
    path.parent.chmod(0o777)
    said = cli.fails("serve", "--socket", str(path.parent / "other"))
    assert "can be written by others" in said


def test_who_gives_up_leaves_no_mount(spawner: Spawner, asking: dict[str, str], here: Path) -> None:
    """The upper is in use, so that the mount takes its time; its caller is killed meanwhile."""
    assert _mount(here, asking).returncode == 0
    (here / "second").mkdir()
    words = [*WORD, "-o", "lowerdir=low,upperdir=up,workdir=work", "second"]
    with subprocess.Popen(words, cwd=here, env=asking) as waiting:
        spawner.until(spawner.children)
        waiting.kill()
    spawner.until(lambda: not spawner.children())
    client.unmount(os.fsencode(here / "merged"))
    deadline = time.monotonic() + 15
    while _anybody_has(here) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _anybody_has(here)
    assert not client.is_mount_point(os.fsencode(here / "second"))


def _anybody_has(here: Path) -> bool:
    try:
        _daemon(here)
    except AssertionError:
        return False
    return True


def test_the_socket_that_systemd_passes(path: Path, here: Path) -> None:
    made = Spawner(path, [sys.executable, "-c", _INHERITED, str(path)])
    env = {**os.environ, "UNIONFS_SERVE": str(path), "PYTHONPATH": REPO}
    assert _mount(here, env).returncode == 0
    assert _is_forked_from(_daemon(here), made)
    made.end()
    assert path.exists()  # systemd's


def test_it_does_nothing_while_nobody_asks(spawner: Spawner, asking: dict[str, str]) -> None:
    def used() -> list[str]:
        stat = Path(f"/proc/{spawner.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[11:13]

    def rests() -> bool:
        before = used()
        time.sleep(0.5)
        return used() == before

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.connect(str(spawner.path))
        assert any(rests() for _ in range(20))  # it has to come to its turn first
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as rude:
        rude.connect(str(spawner.path))
        rude.send(b"\xff" * 1000)
        assert rude.recv(100) == resident.NOT_HERE
    os.kill(spawner.process.pid, signal.SIGCHLD)  # of nobody
    time.sleep(0.1)
    assert spawner.process.poll() is None
