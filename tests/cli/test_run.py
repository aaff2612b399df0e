"""run and bundle: programs in containers, and what is there before, meanwhile and afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.command import Cli

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


def sh(text: str) -> tuple[str, ...]:
    return ("sh", "-c", text)


def _status(cli: Cli, name: str = "one") -> str:
    return str(cli.json("inspect", name)["status"])


def test_a_program_in_a_container(cli: Cli) -> None:
    cli("create", "tiny", "--name", "one")
    text = "echo out; echo changed >/etc/new; rm /etc/group; exit 43"
    assert cli("run", "one", *sh(text), status=43) == "out\n"
    assert _status(cli) == "created"
    assert cli("diff", "one") == "C /etc\nD /etc/group\nA /etc/new\n"
    assert cli("run", "one", "--", "cat", "/etc/new") == "changed\n"


def test_an_image_makes_a_container_that_stays(cli: Cli) -> None:
    assert cli("run", "--name", "made", "tiny", *sh(">/kept")) == ""
    assert cli("diff", "made") == "A /kept\n"


def test_rm_leaves_nothing(cli: Cli) -> None:
    assert cli("run", "--rm", "tiny", *sh("exit 3"), status=3) == ""
    assert cli.json("ls") == []
    assert list((cli.root / "containers").iterdir()) == []


@pytest.mark.parametrize("runtime", ["", "runc", "bubblewrap"])
def test_the_program_gets_its_streams_and_no_other_descriptor(
    cli: Cli, runtime: str, tmp_path: Path
) -> None:
    """A directory of the host, open in the container, is a way out (CVE-2024-21626).

    Neither the driver's descriptors come in nor one that the caller left open.
    """
    cli("create", "tiny", "--name", "one")
    chosen = ("--runtime", runtime) if runtime else ()
    outside = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        words = ("run", *chosen, "one", "ls", "-l", "/proc/self/fd")
        shown = cli(*words, pass_fds=(outside,))
    finally:
        os.close(outside)
    found = dict(line.split()[-3::2] for line in shown.splitlines() if "->" in line)
    theirs = {number: where for number, where in found.items() if int(number) > 2}
    assert all(where.startswith("/proc/") for where in theirs.values()), theirs  # what ls lists
    assert len(theirs) == 1


@pytest.mark.parametrize(
    ("program", "status"), [("none", 127), ("/etc/passwd", 126), ("/etc", 127)]
)
def test_what_cannot_run_leaves_nothing(cli: Cli, program: str, status: int) -> None:
    assert program in cli.fails("run", "tiny", program, status=status)
    assert cli.json("ls") == []


def test_an_image_without_a_command_needs_one(cli: Cli) -> None:
    assert "no command" in cli.fails("run", "tiny", status=2)
    assert cli.json("ls") == []


def test_words_that_look_like_options_are_the_program_s(cli: Cli) -> None:
    assert cli("run", "--rm", "tiny", "ls", "-d", "--", "/etc") == "/etc\n"
    assert cli("run", "--rm", "tiny", "--", "ls", "-d", "/etc") == "/etc\n"


def test_environment_directory_and_user(cli: Cli) -> None:
    words = ["-e", "A=b c", "--env", "FROM_US", "-w", "/etc", "-u", "alice:video"]
    env = {**cli.env, "FROM_US": "here"}
    text = "echo $A $FROM_US $HOME; pwd; id -u; id -g"
    if shutil.which("runc") is None:
        pytest.skip("another user than root takes runc")
    found = cli("run", "--rm", "--runtime", "runc", *words, "tiny", *sh(text), env=env)
    assert found == "b c here /home/alice\n/etc\n1000\n44\n"


def test_the_streams_are_the_program_s(cli: Cli) -> None:
    done = cli.run("run", "--rm", "tiny", *sh("cat; echo err >&2"), input="in\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "in\n", "err\n")


def test_a_mount_of_the_user_s_is_used_and_stays(cli: Cli, target: Path) -> None:
    cli("create", "tiny", "--name", "one")
    cli("mount", "one", str(target))
    cli("run", "one", *sh(">/new"))
    assert (target / "new").exists()
    assert _status(cli) == "mounted"
    assert "cannot be removed" in cli.fails("run", "--rm", "one", *sh("exit"))


def test_a_dead_mount_does_not_stop_it(cli: Cli, target: Path) -> None:
    cli("create", "tiny", "--name", "one")
    cli("mount", "one", str(target))
    os.kill(cli.daemons("one")[0], signal.SIGKILL)
    assert cli("run", "one", "ls", "-d", "/etc") == "/etc\n"
    assert _status(cli) == "created"
    assert list(target.iterdir()) == []


def _running(cli: Cli, *words: str) -> subprocess.Popen[str]:
    process = cli.start("run", *words)
    assert process.stdout.readline() == "ready\n"
    return process


def _go(process: subprocess.Popen[str], go: Path) -> int:
    go.touch()
    process.stdout.close()
    return process.wait(30)


WAIT = "echo ready; until test -e /go-{0}; do sleep 0.05; done; exit {0}"


def test_two_at_once_share_the_mount_and_the_last_unmounts(cli: Cli) -> None:
    cli("create", "tiny", "--name", "one")
    first = _running(cli, "one", *sh(WAIT.format(1)))
    second = _running(cli, "one", *sh(WAIT.format(2)))
    (mount,) = cli.json("inspect", "one")["mounts"]
    merged = Path(mount["target"])
    assert _status(cli) == "running"
    for command in ("mount", "umount", "rm"):
        assert cli.fails(command, "one") == "container one is running a command"
    assert _go(first, merged / "go-1") == 1
    assert _status(cli) == "running"
    assert _go(second, merged / "go-2") == 2
    assert _status(cli) == "created"
    assert cli.json("inspect", "one")["mounts"] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_the_program_and_all_is_cleaned_up(
    cli: Cli, number: signal.Signals
) -> None:
    text = "trap 'exit 9' TERM INT HUP; echo ready; while :; do sleep 0.05; done"
    process = _running(cli, "--rm", "tiny", *sh(text))
    process.send_signal(number)
    process.stdout.close()
    assert process.wait(30) == 9
    assert cli.json("ls") == []


def test_a_signal_before_the_program_is_there_cleans_up_too(cli: Cli) -> None:
    for delay in (0.15, 0.25, 0.35, 0.5):
        words = sh("trap 'exit 9' TERM; sleep 60 & wait")
        process = cli.start("run", "--rm", "tiny", *words, stderr=subprocess.PIPE)
        time.sleep(delay)
        process.terminate()
        time.sleep(1.5)  # one that came before the trap was set is ignored by process 1
        process.terminate()
        process.terminate()
        process.stdout.close()
        with process.stderr as stream:
            said = stream.read()
        status = process.wait(30)
        assert status in (-signal.SIGTERM, 9, 128 + 9, 128 + signal.SIGTERM), (delay, said)
        assert cli.json("ls") == []


def test_run_killed_leaves_what_the_next_one_clears(cli: Cli) -> None:
    cli("create", "tiny", "--name", "one")
    process = _running(cli, "one", *sh(WAIT.format(1)))
    merged = Path(cli.json("inspect", "one")["mounts"][0]["target"])
    process.kill()
    process.stdout.close()
    process.wait(30)
    (merged / "go-1").touch()
    assert _status(cli) == "mounted"
    assert cli("run", "one", "ls", "/go-1") == "/go-1\n"
    assert _status(cli) == "created"


def test_the_directory_of_the_run_goes(cli: Cli) -> None:
    home = cli.root / "containers" / cli("create", "tiny", "--name", "one").strip()
    cli("run", "one", *sh("exit"))
    kept = {"upper", "work", "merged", "log", "mount.lock", "run.lock"}
    deadline = time.monotonic() + 10  # the daemon may still be leaving, with its socket
    while (home / "control").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {path.name for path in home.iterdir()} == kept
