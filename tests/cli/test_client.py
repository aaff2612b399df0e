"""The client in C: it says to the spawner what Python's says, and is Python's program otherwise."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.command import WORD
from tests.support.resident import (
    COMPILED,
    FalseSpawner,
    Spawner,
    asking_at,
    daemon,
    is_resident_s,
)
from unionfs.cli import main
from unionfs.daemon import client

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_extension]

NOTHING_TOLD = "unionfs: error: the resident spawner ended before it said whether it is mounted\n"
MOUNT = ("-o", "lowerdir=low,upperdir=up,workdir=work", "merged")
_OTHER_USER = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
os.setresuid(12345, 12345, 12345)
listener.listen()
print("listening", flush=True)
connection, _ = listener.accept()
print(len(connection.recv(1 << 20)))
"""


@contextmanager
def false_spawner(
    socket_path: Path,
    answers: Sequence[bytes] | None,
    *,
    stays: bool = False,
) -> Iterator[FalseSpawner]:
    made = FalseSpawner(socket_path, answers, stays=stays)
    try:
        yield made
    finally:
        made.end()


def run(
    socket_path: Path,
    *words: str | bytes,
    program: str | Path = COMPILED,
    **options: object,
) -> subprocess.CompletedProcess[str]:
    options = {"env": asking_at(socket_path), "capture_output": True, "text": True} | options
    return subprocess.run([program, *words], timeout=60, **options)  # type: ignore[call-overload, no-any-return]


def mounted_by_itself(socket_path: Path, here: Path) -> bool:
    done = run(socket_path, *MOUNT, cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    assert (here / "merged" / "file").read_text() == "content"
    return not is_resident_s(daemon(here))


def test_it_is_compiled() -> None:
    assert COMPILED.read_bytes().startswith(b"\x7fELF")


def test_both_clients_say_the_same(socket_path: Path, tmp_path: Path) -> None:
    """Words and variables of any bytes, as they are; the umask, descriptors and directory."""
    words = [b"mount", b"two\nlines", b"\xff\xfe", b"", b"-o", b"a=b\\,c", b"--", "é".encode()]
    env = {os.fsencode(name): os.fsencode(value) for name, value in asking_at(socket_path).items()}
    env |= {b"ODD": b"\xff\n=x", b"EMPTY": b""}
    (tmp_path / "there").mkdir()
    with (
        false_spawner(socket_path, [b"taken", b"7"]) as spawner,
        (tmp_path / "in").open("w+") as stdin,
    ):
        for word in (WORD, [str(COMPILED)]):
            done = subprocess.run(
                [*map(os.fsencode, word), *words], env=env, cwd=tmp_path / "there", stdin=stdin,
                stdout=stdin, stderr=subprocess.DEVNULL, umask=0o027, timeout=60,
            )  # fmt: skip
            assert done.returncode == 7
        (one, ones), (other, others) = spawner.heard
    assert ones == others and len(ones) == 4
    assert ones[3] == (os.stat(tmp_path / "there").st_dev, os.stat(tmp_path / "there").st_ino)
    one, other = (message.split(b"\0") for message in (one, other))
    assert os.fsdecode(other.pop(3)) == str(COMPILED) and one.pop(3)
    assert one[:3] == other[:3] == [one[0], b"27", b"9"]
    assert one[3:11] == other[3:11] == words
    assert sorted(one[11:]) == sorted(other[11:])


@pytest.mark.parametrize(
    "answers", [None, [], [b""], [b"not here"], [b"takenaback", b"0"], [b"0"], [b"x" * 5000]]
)
def test_what_the_spawner_does_not_take_is_mounted(
    socket_path: Path,
    here: Path,
    answers: list[bytes] | None,
) -> None:
    with false_spawner(socket_path, answers):
        assert mounted_by_itself(socket_path, here)


@pytest.mark.parametrize(
    "status", [b"", b"yes", b"-1", b"1 ", b"1234", b"256", b"12345678901234567890"]
)
def test_a_status_that_is_none_is_an_error(socket_path: Path, here: Path, status: bytes) -> None:
    with false_spawner(socket_path, [b"taken", status]):
        done = run(socket_path, *MOUNT, cwd=here)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", NOTHING_TOLD)
    assert not os.path.ismount(here / "merged")


@pytest.mark.parametrize("answers", [[b"taken"], [b"taken", b"0"]])
def test_the_status_is_the_spawner_s(socket_path: Path, here: Path, answers: list[bytes]) -> None:
    with false_spawner(socket_path, answers):
        done = run(socket_path, *MOUNT, cwd=here)
    assert (done.returncode, done.stderr) == ((0, "") if len(answers) > 1 else (1, NOTHING_TOLD))


@pytest.mark.parametrize("what", ["nothing", "file", "directory", "dead", "long", "empty"])
def test_where_nobody_listens_it_is_mounted(socket_path: Path, here: Path, what: str) -> None:
    if what == "file":
        socket_path.touch()
    elif what == "directory":
        socket_path.mkdir()
    elif what == "dead":
        Spawner(socket_path).kill()
    elif what == "long":
        socket_path = socket_path.parent / ("x" * 200)
    env = asking_at(socket_path) | ({"UNIONFS_SERVE": ""} if what == "empty" else {})
    done = run(socket_path, *MOUNT, cwd=here, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert not is_resident_s(daemon(here))


@pytest.mark.needs_root
def test_another_user_s_socket_hears_nothing(socket_path: Path, here: Path) -> None:
    words = [sys.executable, "-c", _OTHER_USER, str(socket_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "listening\n"
        assert mounted_by_itself(socket_path, here)
        assert other.communicate(timeout=20)[0] == "0\n"


@pytest.mark.needs_root
@pytest.mark.parametrize("program", ["c", "python"])
def test_who_only_looks_like_this_user_hears_nothing(socket_path: Path, program: str) -> None:
    """In a user namespace where neither has a name, whoever listens seems to be who asks."""
    words = WORD if program == "python" else [str(COMPILED)]
    with false_spawner(socket_path, [b"taken", b"7"]) as spawner:
        done = run(socket_path, "--user", *words, *MOUNT, program="unshare")
        assert (done.returncode, spawner.heard) == (1, [])


@pytest.mark.parametrize("full", [False, True], ids=["", "queue full"])
@pytest.mark.parametrize("program", ["c", "python"])
def test_a_spawner_that_is_stopped(spawner: Spawner, here: Path, program: str, full: bool) -> None:
    """It is waited for, for a while; and when it goes on nothing is mounted a second time."""
    words = [*(WORD if program == "python" else [str(COMPILED)]), *MOUNT]
    with ExitStack() as stack:
        spawner.process.send_signal(signal.SIGSTOP)
        stack.callback(spawner.process.send_signal, signal.SIGCONT)
        while full:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            waiting.setblocking(False)
            full = waiting.connect_ex(str(spawner.path)) == 0
        done = run(spawner.path, *words[1:], program=words[0], cwd=here)
    said = "unionfs: the resident spawner does not answer: going on without it\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", said)
    first = daemon(here)
    assert not is_resident_s(first)
    client.unmount(os.fsencode(here / "merged"))
    assert client.wait_gone(first)
    # It comes to this call after those that nobody waits for any more.
    assert run(spawner.path, *MOUNT, cwd=here).returncode == 0
    assert is_resident_s(daemon(here))
    spawner.until(lambda: not spawner.children())


def test_other_commands_are_python_s_alone(socket_path: Path) -> None:
    with false_spawner(socket_path, [b"taken", b"7"]) as spawner:
        assert run(socket_path, "--version").stdout.startswith("unionfs ")
        assert run(socket_path, "image", "rm").returncode == 2
        assert run(socket_path, "no", "such").stderr.startswith(
            "unionfs: error: no such command: no "
        )
        assert spawner.heard == []


def test_what_only_looks_like_a_mount(spawner: Spawner) -> None:
    """The spawner's Python says that it is none."""
    done = run(spawner.path, "umount", "mount")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("unionfs: error: ")
    assert run(spawner.path, "image", "ls", "-o").returncode == 2


def test_a_call_too_long_for_a_message(socket_path: Path, here: Path) -> None:
    long = ["-o", f"comment={'x' * 100_000}"] * 2
    with false_spawner(socket_path, [b"taken", b"7"]) as spawner:
        done = run(socket_path, *long, *MOUNT, cwd=here)
        assert spawner.heard == []
    assert done.returncode == 0
    assert (here / "merged" / "file").exists()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_with_standard_descriptors_closed(socket_path: Path, here: Path, closed: str) -> None:
    words = ("-c", f'exec "$@" {closed}', "sh", str(COMPILED), *MOUNT)
    with false_spawner(socket_path, [b"taken", b"7"]) as spawner:
        done = run(socket_path, *words, program="/bin/sh", cwd=here)
        assert spawner.heard == []
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (here / "merged" / "file").read_text() == "content"


@pytest.mark.parametrize("served", [True, False])
def test_in_a_directory_that_is_gone(
    socket_path: Path,
    here: Path,
    served: bool,
    request: pytest.FixtureRequest,
) -> None:
    if served:
        request.getfixturevalue("spawner")
    (here / "gone").mkdir()
    layers = f"lowerdir={here}/low,upperdir={here}/up,workdir={here}/work"
    script = 'cd gone; rmdir ../gone; exec "$@"'
    words = ("-ec", script, "sh", str(COMPILED), "-o", layers, str(here / "merged"))
    done = run(socket_path, *words, program="/bin/sh", cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    assert is_resident_s(daemon(here)) == served


def test_the_name_that_it_is_called_by(spawner: Spawner, here: Path, tmp_path: Path) -> None:
    """As mount.*, through a link, -N is a flag, and -s means what it means to mount(8)."""
    name = tmp_path / "mount.fuse.unionfs"
    name.symlink_to(COMPILED)
    words = ("source", "merged", "-sn", *MOUNT[:1], f"{MOUNT[1]},unheard-of")
    done = run(spawner.path, *words, program=name, cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    assert is_resident_s(daemon(here))
    client.unmount(os.fsencode(here / "merged"))
    for path in (spawner.path, tmp_path / "nobody"):
        done = run(path, "source", "merged", "-N", "x", program=name, cwd=here)
        assert done.returncode == 1
        assert done.stderr.startswith("unionfs: error: -N x: mounting in another namespace")


def test_an_interrupt(socket_path: Path, here: Path) -> None:
    with false_spawner(socket_path, [b"taken"], stays=True) as spawner:
        words = [COMPILED, *MOUNT]
        with subprocess.Popen(words, cwd=here, env=asking_at(socket_path)) as process:
            while not spawner.heard:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130


def test_the_spawner_is_killed_meanwhile(socket_path: Path, here: Path) -> None:
    """What it has begun goes on, and its caller hears how it went."""
    made = Spawner(socket_path)
    assert run(socket_path, *MOUNT, cwd=here).returncode == 0
    first = daemon(here)
    (here / "second").mkdir()
    made.until(lambda: not made.children())  # of the first one
    words = [COMPILED, *MOUNT[:2], "second"]  # waits for the first one's upper
    with subprocess.Popen(words, cwd=here, env=asking_at(socket_path)) as waiting:
        made.until(made.children)
        made.kill()
        client.unmount(os.fsencode(here / "merged"))
        assert client.wait_gone(first)
        assert waiting.wait(20) == 0
    assert (here / "second" / "file").read_text() == "content"
    client.unmount(os.fsencode(here / "second"))


@pytest.mark.needs_root
@pytest.mark.parametrize("mode", [0o4755, 0o2755])
def test_it_lends_nobody_its_owner_s_rights(mode: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        program = shutil.copy(COMPILED, place)
        os.chmod(program, mode)
        done = subprocess.run(
            [program, "--version"], user=12345, group=12345, extra_groups=[], capture_output=True
        )
    said = f"unionfs: error: {program}: must not be set-user-ID or set-group-ID\n"
    assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", said)


def test_python_s_program_is_missing(tmp_path: Path) -> None:
    program = shutil.copy(COMPILED, tmp_path)
    done = subprocess.run([program, "ls"], capture_output=True, text=True)
    said = f"unionfs: error: {tmp_path}/unionfs-python: No such file or directory\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_nobody_else_is_told_how_it_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(main.CALLED, "/sbin/mount.fuse.unionfs")
    monkeypatch.setattr(sys, "argv", ["unionfs-python", "--version"])
    monkeypatch.delitem(sys.modules, main._SPAWNS, raising=False)  # or it would end us at once
    with pytest.raises(SystemExit) as left:
        main.entry()
    assert (left.value.code, sys.argv[0]) == (0, "/sbin/mount.fuse.unionfs")
    assert main.CALLED not in os.environ
