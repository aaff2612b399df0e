"""The resident spawner: mounts through it are those that the callers themselves would have made."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.command import WORD, Cli
from tests.support.resident import COMPILED, Spawner, asking_at, daemon, is_resident_s
from unionfs.daemon import client, resident

pytestmark = pytest.mark.needs_fuse

_SERVE = [*WORD, "serve"]
_BECOMES_ROOT = """
import os, socket, sys
from unionfs.daemon import resident
caller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
os.setresuid(12345, 12345, 0)
caller.connect("serve")
os.setresuid(0, 0, 0)
caller.send(resident.pack(["unionfs", "mount", "one"]))
os.write(1, caller.recv(100))
"""
_OLDER = """
import sys
import unionfs
unionfs.__version__ = "0.0"
from unionfs.cli.main import main
sys.exit(main(["unionfs", "serve"]))
"""
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


@pytest.fixture(params=["python", pytest.param("c", marks=pytest.mark.needs_extension)])
def word(request: pytest.FixtureRequest) -> Sequence[str]:
    """The program that asks: the one in Python, or the client in C."""
    return WORD if request.param == "python" else [str(COMPILED)]


def _mount(
    here: Path, env: dict[str, str], word: Sequence[str] = WORD, **options: object
) -> subprocess.CompletedProcess[str]:
    """Mount with paths that count from the caller's directory."""
    words = [*word, "-o", "lowerdir=low,upperdir=up,workdir=work,unheard-of", "merged"]
    return subprocess.run(
        words, cwd=here, env=env, capture_output=True, text=True, timeout=60, **options
    )  # type: ignore[call-overload, no-any-return]


def test_a_mount_is_the_caller_s_own(
    spawner: Spawner, asking: dict[str, str], here: Path, word: Sequence[str]
) -> None:
    """Its directory, its streams, its environment and its limit of descriptors."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = (64, min(500, limits[1]))
    done = _mount(
        here, asking, word, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, few)
    )
    said = "unknown argument ignored: unheard-of\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", said)
    assert (here / "merged" / "file").read_text() == "content"
    (here / "merged" / "new").write_text("x")
    assert (here / "up" / "new").read_text() == "x"
    pid = daemon(here)
    assert is_resident_s(pid)
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (few[1], few[1])
    spawner.until(lambda: not spawner.children())  # the daemon is none of its own
    client.unmount(os.fsencode(here / "merged"))
    assert client.wait_gone(pid)


def test_a_container_and_a_failure(
    asking: dict[str, str], cli: Cli, target: Path, word: Sequence[str]
) -> None:
    cli("create", "tiny", "--name", "one")

    def run(*words: str) -> tuple[int, str, str]:
        env = {**cli.env, **asking}
        done = subprocess.run([*word, *words], env=env, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    assert run("mount", "one", str(target)) == (0, f"{target}\n", "")
    assert (target / "bin/sh").exists()
    said = f"unionfs: error: container one is already mounted at {target}\n"
    assert run("mount", "one", str(target)) == (1, "", said)
    cli("umount", "one")
    assert run("mount", "two") == (1, "", "unionfs: error: no such container: two\n")
    assert run("mount", "--bad")[0] == 2


def test_who_is_elsewhere_does_it_himself(
    spawner: Spawner, asking: dict[str, str], here: Path, word: Sequence[str]
) -> None:
    """In another mount namespace the spawner's mount would not be seen."""
    script = 'python=$1; shift; "$@" && cat merged/file && umount merged'
    words = [*word, "-o", "lowerdir=low,upperdir=up,workdir=work", "merged"]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script, "sh", sys.executable, *words],
        cwd=here, env=asking, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "content", "")


@pytest.mark.parametrize("gone", ["never there", "killed", "other version"])
def test_without_a_spawner_it_is_mounted_all_the_same(
    here: Path, socket_path: Path, gone: str, word: Sequence[str]
) -> None:
    env = asking_at(socket_path)
    made = None
    if gone != "never there":
        words = [sys.executable, "-c", _OLDER] if gone == "other version" else _SERVE
        made = Spawner(socket_path, words)
    if made is not None and gone == "killed":
        made.kill()
        assert socket_path.exists()
    assert _mount(here, env, word).returncode == 0
    assert (here / "merged" / "file").read_text() == "content"
    assert not is_resident_s(daemon(here))
    if gone == "killed":
        made = Spawner(socket_path)  # takes the dead one's place
    if made is not None:
        made.end()


def test_the_mounts_go_on_when_it_ends(socket_path: Path, here: Path) -> None:
    made = Spawner(socket_path)
    _mount(here, asking_at(socket_path))
    pid = daemon(here)
    assert is_resident_s(pid)
    made.end()
    assert (here / "merged" / "file").read_text() == "content"
    client.unmount(os.fsencode(here / "merged"))
    assert client.wait_gone(pid)


def test_there_is_one(spawner: Spawner, socket_path: Path, tmp_path: Path) -> None:
    cli = Cli(tmp_path / "store")
    said = cli.fails("serve", "--socket", str(socket_path))
    assert said == f"a spawner listens at {socket_path} already"
    socket_path.parent.chmod(0o777)
    said = cli.fails("serve", "--socket", str(socket_path.parent / "other"))
    assert "can be written by others" in said


def test_who_gives_up_leaves_no_mount(
    spawner: Spawner, asking: dict[str, str], here: Path, word: Sequence[str]
) -> None:
    """The upper is in use, so that the mount takes its time; its caller is killed meanwhile."""
    assert _mount(here, asking).returncode == 0
    (here / "second").mkdir()
    spawner.until(lambda: not spawner.children())  # of the first one
    words = [*word, "-o", "lowerdir=low,upperdir=up,workdir=work", "second"]
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


def _asked(path: Path, message: bytes) -> socket.socket:
    """Return a connection over which the spawner has been sent *message*."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(20)
    connection.connect(str(path))
    connection.send(message)
    return connection


def _taken(path: Path, here: Path, *words: str) -> socket.socket:
    """Return a connection of the call *words*, which was taken and sent its descriptors."""
    connection = _asked(path, resident.pack(["unionfs", *words]))
    assert connection.recv(100) == resident.TAKEN
    with open(os.devnull, "r+b") as nowhere:
        place = os.open(here, os.O_PATH)
        socket.send_fds(connection, [b"\0"], [*[nowhere.fileno()] * 3, place])
        os.close(place)
    return connection


def test_who_hangs_up_at_once_is_given_up(spawner: Spawner, here: Path) -> None:
    """Whether its child is itself already or not. The upper is in use: it would wait for that."""
    words = ("-o", "lowerdir=low,upperdir=up,workdir=work")
    with _taken(spawner.path, here, *words, "merged") as caller:
        assert caller.recv(100) == b"0"
    (here / "second").mkdir()
    for turn in range(10):
        _taken(spawner.path, here, *words, "second").close()
        begun = time.monotonic()
        time.sleep(turn * 0.001)
        spawner.until(lambda: not spawner.children())
        assert time.monotonic() - begun < 5
    assert not client.is_mount_point(os.fsencode(here / "second"))


def test_what_nobody_can_be_told_of_is_undone(spawner: Spawner, here: Path) -> None:
    words = ("-o", "lowerdir=low,upperdir=up,workdir=work", "merged")
    with _taken(spawner.path, here, *words) as caller:
        caller.shutdown(socket.SHUT_RD)
        ended = select.poll()
        ended.register(caller, 0)  # POLLHUP
        assert ended.poll(20_000)
    spawner.until(lambda: not _anybody_has(here))
    assert not client.is_mount_point(os.fsencode(here / "merged"))


def test_calls_that_are_none(spawner: Spawner, here: Path) -> None:
    """They are not taken or not begun, and the spawner goes on."""
    words = ("-o", "lowerdir=low,upperdir=up,workdir=work", "merged")
    message = resident.pack(["unionfs", *words])
    version, umask, _, *rest = message.split(b"\0")
    for count in (b"0", b"-1", b"100000", b"", b"x"):
        with _asked(spawner.path, b"\0".join((version, umask, count, *rest))) as caller:
            assert caller.recv(100) == resident.NOT_HERE
    with _asked(spawner.path, message + b"\0" + b"x" * resident.LONGEST) as caller:
        assert caller.recv(100) == resident.NOT_HERE
    with _asked(spawner.path, message) as caller:
        assert caller.recv(100) == resident.TAKEN
        caller.send(b"no descriptors")
        assert caller.recv(100) == resident.NOT_HERE
    with _taken(spawner.path, here, *words) as caller:
        assert caller.recv(100) == b"0"


def test_a_call_that_is_not_begun_when_it_ends(socket_path: Path) -> None:
    made = Spawner(socket_path)
    with _asked(socket_path, resident.pack(["unionfs", "mount", "one"])) as caller:
        assert caller.recv(100) == resident.TAKEN
        made.end()
        assert caller.recv(100) == resident.NOT_HERE


@pytest.mark.needs_root
def test_who_has_become_another_is_not_heard(spawner: Spawner) -> None:
    """Who connects, and runs a program with root's privileges then, does not speak for root."""
    spawner.path.parent.chmod(0o755)
    spawner.path.chmod(0o666)
    words = [sys.executable, "-c", _BECOMES_ROOT]
    done = subprocess.run(words, cwd=spawner.path.parent, capture_output=True, timeout=60)
    assert done.stdout == resident.NOT_HERE


def _anybody_has(here: Path) -> bool:
    try:
        daemon(here)
    except AssertionError:
        return False
    return True


def test_the_socket_that_systemd_passes(socket_path: Path, here: Path) -> None:
    made = Spawner(socket_path, [sys.executable, "-c", _INHERITED, str(socket_path)])
    env = asking_at(socket_path)
    assert _mount(here, env).returncode == 0
    assert is_resident_s(daemon(here))
    made.end()
    assert socket_path.exists()  # systemd's


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
