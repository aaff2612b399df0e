"""Starting a daemon: the starter returns when the mount answers, or with a reason and no mount."""

import os
import resource
import signal
import stat
import subprocess
import sys
import time

import pytest
import trio

from tests.support import fake_session
from unionfs.daemon import client, spawn
from unionfs.options import MountConfig
from unionfs.syscalls.mount import mounts_at

pytestmark = pytest.mark.needs_fuse


@pytest.fixture
def target(tmp_path):
    """A mount point; whatever is mounted on it is gone afterwards."""
    point = tmp_path / "merged"
    point.mkdir()
    yield point
    while client.is_ours(os.fsencode(point)):
        client.unmount(os.fsencode(point), lazy=True)


def field(pid, name):
    with open(f"/proc/{pid}/status") as status:
        return next(line.split(":")[1].strip() for line in status if line.startswith(name))


def wait_until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def gone(pid):
    """Whether *pid* has ended; a zombie that its init has yet to reap has."""
    return client.wait_gone(pid, 5)


class TestAnswer:
    def test_mount_answers_and_daemon_leaves_with_it(self, target):
        pid = fake_session.start("ok", target)["pid"]
        assert (target / "file").read_bytes() == fake_session.CONTENT
        assert target.stat().st_dev != target.parent.stat().st_dev
        client.unmount(os.fsencode(target))
        assert gone(pid) and not client.is_mount_point(os.fsencode(target))

    def test_standard_descriptors_are_let_go(self, target):
        """An engine reads its mount program's output to the end: a daemon with it hangs it."""
        starter = fake_session.popen(
            "ok", target, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=os.getcwd()
        )
        output, _ = starter.communicate(timeout=20)
        assert b'"pid"' in output

    def test_daemon_is_detached(self, target, tmp_path):
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        pid = fake_session.start("ok", target, tmp_path / "log", pass_fds=[writing])["pid"]
        os.close(writing)
        assert os.read(reading, 1) == b""  # nobody holds the other end
        os.close(reading)
        assert os.getsid(pid) == pid and os.readlink(f"/proc/{pid}/cwd") == "/"
        assert field(pid, "Umask") == "0000" and field(pid, "Name") == "unionfs"
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        assert soft == hard
        assert int(field(pid, "FDSize")) == min(hard, 4096)  # of the kernel's table
        assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3

    def test_every_descriptor_closes_on_exec(self, target, tmp_path):
        pid = fake_session.start("ok", target, tmp_path / "log")["pid"]
        for fd in set(os.listdir(f"/proc/{pid}/fd")) - {"0", "1", "2"}:
            with open(f"/proc/{pid}/fdinfo/{fd}") as info:
                flags = next(int(line.split()[1], 8) for line in info if "flags" in line)
            assert flags & os.O_CLOEXEC, os.readlink(f"/proc/{pid}/fd/{fd}")

    def test_relative_paths_count_from_the_caller(self, target, tmp_path):
        root = os.getcwd()
        told = fake_session.start(
            "refuse", "merged", "", cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}
        )["told"]
        assert os.fsencode(tmp_path).decode() + "/relative/../l" in told
        env = {**os.environ, "PYTHONPATH": root}
        fake_session.start("ok", "merged", "log", cwd=tmp_path, env=env)
        assert (target / "file").exists() and (tmp_path / "log").exists()


class TestFailure:
    @pytest.mark.parametrize(
        ("mode", "kind", "words"),
        [
            ("refuse", "RefusedError", "lower layers (b'/l',"),
            ("oserror", "UnionfsError", "/no/lower: No such file or directory"),
            ("bug", "UnionfsError", "internal error: ValueError: a bug"),
            (
                "mount-fails",
                "UnavailableError",
                "cannot mount: fusermount3: mount failed: Operation not permitted",
            ),
        ],
    )
    def test_reason_is_the_daemons(self, target, tmp_path, mode, kind, words):
        result = fake_session.start(mode, target, tmp_path / "log")
        assert kind in result["error"] and words in result["told"]
        assert not mounts_at(os.fsencode(target))

    def test_unforeseen_error_is_logged_with_traceback(self, target, tmp_path):
        fake_session.start("bug", target, tmp_path / "log")
        assert "Traceback" in (tmp_path / "log").read_text()

    @pytest.mark.parametrize("mode", ["die", "die-mounted"])
    def test_death_without_a_word_names_the_log_and_leaves_no_mount(self, target, tmp_path, mode):
        result = fake_session.start(mode, target, tmp_path / "log")
        assert "DaemonDiedError" in result["error"] and str(tmp_path / "log") in result["told"]
        assert not mounts_at(os.fsencode(target))

    def test_log_that_cannot_be_made(self, target, tmp_path):
        result = fake_session.start("ok", target, tmp_path / "no" / "log")
        assert "no/log: No such file or directory" in result["told"]
        assert not mounts_at(os.fsencode(target))

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
    def test_killed_starter_leaves_no_mount(self, target, number):
        starter = fake_session.popen("slow", target, stderr=subprocess.DEVNULL)
        assert wait_until(lambda: mounts_at(os.fsencode(target)))
        starter.send_signal(number)
        starter.wait(10)
        assert wait_until(lambda: not mounts_at(os.fsencode(target)))


class TestMountPoint:
    def test_missing(self, target):
        result = fake_session.start("ok", target / "no")
        assert "NotFoundError" in result["error"] and "no does not exist" in result["told"]

    def test_file(self, target):
        (target / "f").touch()
        assert "is not a directory" in fake_session.start("ok", target / "f")["told"]

    def test_not_empty_only_when_allowed(self, target):
        (target / "f").touch()
        result = fake_session.start("ok", target)
        assert "ConflictError" in result["error"] and "is not empty" in result["told"]
        assert fake_session.start("ok", target, "", "nonempty")["pid"]

    def test_mounted_already(self, target):
        fake_session.start("ok", target)
        result = fake_session.start("ok", target, "", "nonempty")
        assert "ConflictError" in result["error"] and "already a mount" in result["told"]
        assert len(mounts_at(os.fsencode(target))) == 1

    def test_stale_mount_is_cleaned_first(self, target):
        os.kill(pid := fake_session.start("ok", target)["pid"], signal.SIGKILL)
        assert gone(pid) and client.stale(os.fsencode(target))
        fake_session.start("ok", target)
        assert len(mounts_at(os.fsencode(target))) == 1
        assert (target / "file").read_bytes() == fake_session.CONTENT

    def test_through_a_link(self, target, tmp_path):
        (tmp_path / "link").symlink_to("merged")
        fake_session.start("ok", f"{tmp_path}/./link/")
        assert client.is_ours(os.fsencode(target))
        client.unmount(os.fsencode(tmp_path / "link"))
        assert not client.is_ours(os.fsencode(target))


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_leaves_and_unmounts(self, target, tmp_path, number):
        pid = fake_session.start("ok", target, tmp_path / "log")["pid"]
        os.kill(pid, number)
        assert gone(pid) and not mounts_at(os.fsencode(target))
        assert signal.Signals(number).name in (tmp_path / "log").read_text()

    def test_leaves_a_busy_mount(self, target):
        pid = fake_session.start("ok", target)["pid"]
        held = os.open(target / "file", os.O_RDONLY)
        os.kill(pid, signal.SIGTERM)
        assert gone(pid) and not mounts_at(os.fsencode(target))
        with pytest.raises(OSError, match="not connected"):
            os.close(held)  # its flush finds nobody

    @pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
    def test_signals_that_mean_nothing(self, target, number):
        pid = fake_session.start("ok", target)["pid"]
        os.kill(pid, number)
        assert not client.wait_gone(pid, 0.3) and (target / "file").exists()

    def test_requests_that_never_end_are_left(self, target, tmp_path):
        pid = fake_session.start("deaf", target, tmp_path / "log")["pid"]
        os.kill(pid, signal.SIGTERM)
        assert client.wait_gone(pid, 10) and not mounts_at(os.fsencode(target))
        assert "still under way" in (tmp_path / "log").read_text()

    def test_unforeseen_end_is_logged_and_unmounts(self, target, tmp_path):
        pid = fake_session.start("boom", target, tmp_path / "log")["pid"]
        assert client.wait_gone(pid, 10) and not mounts_at(os.fsencode(target))
        told = (tmp_path / "log").read_text()
        assert "Traceback" in told and "something unforeseen" in told
        assert "ExceptionGroup" not in told


class TestForeground:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_serves_until_a_signal(self, target, number):
        process = fake_session.popen("ok", target, "", "foreground", stdout=subprocess.PIPE)
        assert wait_until(lambda: client.is_ours(os.fsencode(target)))
        assert (target / "file").read_bytes() == fake_session.CONTENT
        process.send_signal(number)
        process.communicate(timeout=10)
        assert process.returncode == 0 and not mounts_at(os.fsencode(target))

    def test_tells_why_not(self, target):
        result = fake_session.start("refuse", target, "", "foreground")
        assert "RefusedError" in result["error"]


class TestForkRule:
    def test_not_from_a_process_with_threads(self, target):
        script = (
            "import threading, time\n"
            "threading.Thread(target=time.sleep, args=(30,), daemon=True).start()\n"
            "from unionfs.daemon import spawn\n"
            "from unionfs.options import MountConfig\n"
            f"spawn.start(MountConfig((b'/',)), {os.fsencode(target)!r}, log=None)\n"
        )
        done = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE)
        assert b"RuntimeError: a daemon must not be forked from a process with" in done.stderr

    def test_not_within_trio(self, target):
        async def start():
            spawn.start(MountConfig((b"/",)), os.fsencode(target), log=None)

        with pytest.raises(RuntimeError, match="within trio"):
            trio.run(start)


def test_the_mount_point_keeps_its_mode(target):
    before = stat.S_IMODE(target.stat().st_mode)
    pid = fake_session.start("ok", target)["pid"]
    client.unmount(os.fsencode(target))
    assert gone(pid) and stat.S_IMODE(target.stat().st_mode) == before
