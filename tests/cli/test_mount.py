"""mount and umount: real mounts of containers and images, dead ones, busy ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.command import Cli

pytestmark = pytest.mark.needs_fuse


@pytest.fixture(autouse=True)
def one(cli: Cli) -> str:
    """A container called one."""
    return cli("create", "tiny", "--name", "one").strip()


def _mounted(cli: Cli) -> list[str]:
    return [mount["target"] for mount in cli.json("inspect", "one")["mounts"]]


def test_mount_prints_where_and_the_mount_answers(cli: Cli, one: str) -> None:
    merged = cli.root / "containers" / one / "merged"
    assert cli("mount", "one") == f"{merged}\n"
    assert (merged / "etc/passwd").read_text().startswith("root:")
    (merged / "new").write_text("x")
    assert (merged.parent / "upper/new").read_text() == "x"
    assert _mounted(cli) == [str(merged)]
    assert cli.json("ls")[0]["status"] == "mounted"
    assert cli("umount", "one") == ""
    assert list(merged.iterdir()) == []
    assert cli("diff", "one") == "A /new\n"


def test_a_target_of_one_s_own(cli: Cli, target: Path) -> None:
    assert cli("mount", "one", str(target)) == f"{target}\n"
    assert (target / "bin/sh").exists()
    assert cli("umount", str(target)) == ""
    assert list(target.iterdir()) == []
    assert cli.json("mount", "one", str(target)) == {"target": str(target)}
    assert cli.json("umount", "one") == [str(target)]


def test_a_relative_target_and_a_link_to_one(cli: Cli, target: Path) -> None:
    assert cli("mount", "one", "target", cwd=target.parent) == f"{target}\n"
    cli("umount", "target", cwd=target.parent)
    (target.parent / "link").symlink_to("target")
    assert cli("mount", "one", str(target.parent / "link")) == f"{target}\n"
    cli("umount", str(target.parent / "link"))
    assert _mounted(cli) == []


def test_an_image_says_which_containers_use_it_also_while_one_is_mounted(cli: Cli) -> None:
    """It waited for the daemon and named that, though the containers are what is to be removed."""
    cli("mount", "one")
    assert cli.fails("image", "rm", "tiny") == "image tiny:latest is used by container one"
    cli("umount", "one")


def test_changes_stay_from_mount_to_mount(cli: Cli, target: Path) -> None:
    cli("mount", "one", str(target))
    (target / "etc/passwd").write_text("changed")
    os.rename(target / "etc", target / "moved")
    cli("umount", "one")
    cli("mount", "one", str(target))
    assert (target / "moved/passwd").read_text() == "changed"
    assert not (target / "etc").exists()


def test_two_containers_of_an_image_see_nothing_of_each_other(cli: Cli) -> None:
    cli("create", "tiny", "--name", "two")
    first, second = (Path(cli("mount", name).strip()) for name in ("one", "two"))
    (first / "etc/group").unlink()
    (first / "only-here").touch()
    assert (second / "etc/group").exists()
    assert not (second / "only-here").exists()


@pytest.mark.parametrize("words", [["--read-only"], ["-o", "ro"], ["-o", "noexec", "-o", "ro"]])
def test_read_only(cli: Cli, target: Path, words: list[str]) -> None:
    cli("mount", "one", str(target), *words)
    with pytest.raises(OSError, match="Read-only"):
        (target / "x").touch()
    assert cli.json("inspect", "one")["mounts"][0]["read_only"] is True
    assert "   mounted, read-only   one   " in cli("ls")


def test_options_are_honoured(cli: Cli, target: Path) -> None:
    cli("mount", "one", str(target), "-o", "noexec")
    assert os.statvfs(target).f_flag & os.ST_NOEXEC


def test_an_image_without_a_container(cli: Cli, target: Path) -> None:
    assert cli("mount", "--image", "tiny", str(target)) == f"{target}\n"
    assert cli.json("image", "inspect", "tiny")["mounts"] == [str(target)]
    assert f"Mounted at:  {target}\n" in cli("image", "inspect", "tiny")
    with pytest.raises(OSError, match="Read-only"):
        (target / "x").touch()
    assert _mounted(cli) == []
    cli("rm", "one")
    assert f"mounted at {target}" in cli.fails("image", "rm", "tiny")
    assert cli("umount", str(target)) == ""
    assert list(target.iterdir()) == []


def test_a_second_mount_says_where_the_first_is(cli: Cli, target: Path) -> None:
    cli("mount", "one", str(target))
    assert cli.fails("mount", "one") == f"container one is already mounted at {target}"
    assert _mounted(cli) == [str(target)]


def test_rm_is_refused_while_mounted(cli: Cli, target: Path) -> None:
    cli("mount", "one", str(target))
    (target / "kept").touch()
    assert f"container one is mounted at {target}" in cli.fails("rm", "one")
    assert (target / "kept").exists()
    assert cli("rm", "--force", "one") == "one\n"
    assert list(target.iterdir()) == []
    assert cli.json("ls") == []


def _inside(target: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"], cwd=target)


def test_a_busy_mount_says_who(cli: Cli, target: Path, one: str) -> None:
    cli("mount", "one", str(target))
    with _inside(target) as sleeper:
        try:
            assert cli.fails("umount", "one") == f"{target} is in use by sleep ({sleeper.pid})"
            assert (target / "bin").exists()
            done = cli.run("rm", "--force", "one")
            assert (done.returncode, done.stdout) == (0, "one\n")
            assert f"in use by sleep ({sleeper.pid})" in done.stderr
            assert list(target.iterdir()) == []
            assert not (cli.root / "containers" / one).exists()
        finally:
            sleeper.kill()


def _kill_daemon(cli: Cli) -> None:
    (pid,) = cli.daemons("one")
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while cli.daemons("one"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_mount_of_a_killed_daemon_is_seen_and_cleared(cli: Cli, target: Path) -> None:
    cli("mount", "one", str(target))
    (target / "kept").write_text("x")
    _kill_daemon(cli)
    assert cli.json("ls")[0]["status"] == "dead mount"
    assert cli.json("inspect", "one")["mounts"][0]["dead"] is True
    assert cli("mount", "one", str(target)) == f"{target}\n"
    assert (target / "kept").read_text() == "x"
    _kill_daemon(cli)
    assert cli("umount", "one") == ""
    assert list(target.iterdir()) == []


def test_a_dead_mount_is_unmounted_by_a_name_without_a_slash(cli: Cli, target: Path) -> None:
    cli("mount", "one", str(target))
    _kill_daemon(cli)
    assert cli("umount", target.name, cwd=target.parent) == ""
    assert list(target.iterdir()) == []


def test_the_directory_one_stands_in_is_left_first(cli: Cli, target: Path) -> None:
    cli("mount", "one", str(target))
    assert cli("umount", ".", cwd=target) == ""
    cli("mount", "one", str(target))
    with subprocess.Popen(["sleep", "60"], cwd=target) as sleeper:
        try:
            error = cli.fails("umount", ".", cwd=target)
            assert error == f"{target} is in use by sleep ({sleeper.pid})"
        finally:
            sleeper.kill()
    cli("umount", "one", cwd=target)


def test_a_killed_daemon_is_no_reason_to_keep_a_container(cli: Cli, target: Path) -> None:
    cli("mount", "one", str(target))
    _kill_daemon(cli)
    assert cli("rm", "one") == "one\n"
    assert list(target.iterdir()) == []


def test_a_killed_mount_elsewhere_does_not_stop_a_new_one(cli: Cli, target: Path) -> None:
    cli("mount", "one", str(target))
    _kill_daemon(cli)
    merged = cli("mount", "one").strip()
    assert _mounted(cli) == [merged]
    assert list(target.iterdir()) == []


def test_umount_by_target_frees_the_container(cli: Cli, target: Path) -> None:
    cli("mount", "one", str(target))
    cli("umount", f"{target}/")
    assert cli("rm", "one") == "one\n"


def test_the_foreground_serves_until_it_is_unmounted(cli: Cli, target: Path) -> None:
    with cli.start("mount", "--foreground", "one", str(target)) as process:
        assert process.stdout.readline() == f"{target}\n"
        _wait_for(target / "bin")
        cli("umount", "one")
        assert process.wait(30) == 0


def test_the_foreground_serves_beside_a_fuse_device_of_its_caller_s(cli: Cli, target: Path) -> None:
    """Who serves a filesystem himself may have the device open where programs inherit it."""
    device = os.open("/dev/fuse", os.O_RDWR)
    words = ("mount", "--foreground", "one", str(target))
    try:
        with cli.start(*words, pass_fds=(device,)) as process:
            _wait_for(target / "bin")
            cli("umount", "one")
            assert process.wait(30) == 0
    finally:
        os.close(device)


def test_the_foreground_leaves_on_a_signal(cli: Cli, target: Path) -> None:
    with cli.start("mount", "--foreground", "--image", "tiny", str(target)) as process:
        _wait_for(target / "bin")
        process.terminate()
        assert process.wait(30) == 0
    assert list(target.iterdir()) == []


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_command_does_not_keep_its_caller_s_pipe_open(cli: Cli, target: Path) -> None:
    # With capture_output, run() returns only when nobody holds the pipes: the daemon must not.
    started = time.monotonic()
    cli("mount", "one", str(target))
    assert time.monotonic() - started < 20
    assert (target / "bin").exists()


def test_a_mount_takes_nothing_that_it_does_not_need() -> None:
    code = """if True:
        import sys
        from unionfs.cli import commands, mounting
        from unionfs.container import mount
        print([name for name in ("trio", "pyfuse3", "rich", "zstandard") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
