"""One process, three runtimes: each gives it the same root, user, signals and exit status."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import runtimes
from tests.support.tinyroot import make_root
from unionfs.container.bubblewrap import LinkedMountPointError, bubblewrap_words
from unionfs.container.passwd import User
from unionfs.container.process import Process
from unionfs.container.runtime import (
    Job,
    NoRuntimeError,
    RuntimeFailedError,
    run_job,
)
from unionfs.container.spec import CAPABILITIES, Surroundings, runtime_spec
from unionfs.container.supervise import signals_held

PROGRAMS = {"crun": "crun", "runc": "runc", "bubblewrap": "bwrap"}
INSTALLED = [name for name, program in PROGRAMS.items() if shutil.which(program)]
ROOT = User()


@pytest.fixture
def runtime(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "crun" and runtimes.HYBRID:
        (tmp_path / "programs").mkdir()
        command = shlex.join(runtimes.words("crun"))
        (tmp_path / "programs/crun").write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (tmp_path / "programs/crun").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}:{os.environ['PATH']}")
        monkeypatch.setattr("unionfs.container.runtime._CGROUP2", str(tmp_path / "none"))
    return request.param


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("root")
    make_root(str(path))
    return path


def job(
    root: Path, tmp_path: Path, words: tuple[str, ...], user: User = ROOT, **around: Any
) -> Job:
    process = Process(words, {"A": "b c"}, "/tmp", "")
    spec = runtime_spec(process, user, Surroundings(str(root), "tiny", **around))
    (tmp_path / "config.json").write_text(json.dumps(spec))
    return Job(spec, str(tmp_path), f"unionfs-test-{os.getpid()}-{time.monotonic_ns()}")


def status_of(job: Job, runtime: str | None) -> int:
    with signals_held():
        return run_job(job, runtime, lambda line: None)


def script(root: Path, tmp_path: Path, text: str, **around: Any) -> Job:
    return job(root, tmp_path, ("/bin/sh", "-c", text), **around)


@pytest.mark.needs_root
@pytest.mark.parametrize("runtime", INSTALLED, indirect=True)
class TestEveryRuntime:
    def test_the_status_is_the_process_s(self, root: Path, tmp_path: Path, runtime: str) -> None:
        assert status_of(script(root, tmp_path, "exit 0"), runtime) == 0
        assert status_of(script(root, tmp_path, "exit 43"), runtime) == 43

    def test_a_signal_is_128_and_its_number(self, root: Path, tmp_path: Path, runtime: str) -> None:
        # Process 1 ignores what it has no handler for, so a child of it has to die.
        text = "sh -c 'kill -9 $$'; exit $?"
        assert status_of(script(root, tmp_path, text), runtime) == 128 + 9

    def test_what_it_sees(
        self, root: Path, tmp_path: Path, runtime: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        text = "pwd; echo $A; ls -d /root; echo $$; cat /proc/sys/kernel/hostname; ls /proc/self/fd"
        assert status_of(script(root, tmp_path, text), runtime) == 0
        lines = capfd.readouterr().out.split("\n")
        assert lines[:5] == ["/tmp", "b c", "/root", "1", "tiny"]
        assert set(lines[5:]) - {""} <= {"0", "1", "2", "3"}  # 3 is ls's own

    def test_its_rights(
        self, root: Path, tmp_path: Path, runtime: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert status_of(script(root, tmp_path, "cat /proc/self/status"), runtime) == 0
        fields = dict(line.split(":\t", 1) for line in capfd.readouterr().out.splitlines())
        numbers = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)  # linux/capability.h
        assert int(fields["CapEff"], 16) == sum(1 << number for number in numbers)
        if fields["NoNewPrivs"] == "0":  # bubblewrap sets it, and then nothing more is to be had
            assert int(fields["CapBnd"], 16) == int(fields["CapEff"], 16)
        assert len(CAPABILITIES) == len(numbers)

    def test_the_host_s_proc_and_sys_are_covered(
        self, root: Path, tmp_path: Path, runtime: str
    ) -> None:
        text = """
            echo x >/proc/sys/kernel/domainname && exit 1
            echo x >/proc/sysrq-trigger && exit 2
            test "$(cat /proc/timer_list | cat)" && exit 3
            mkdir /sys/fs/x && exit 4
            exit 0
        """
        assert status_of(script(root, tmp_path, text), runtime) == 0

    def test_streams_pass_through(
        self, root: Path, tmp_path: Path, runtime: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert status_of(script(root, tmp_path, "echo out; echo err >&2"), runtime) == 0
        assert capfd.readouterr() == ("out\n", "err\n")

    def test_a_read_only_root(self, root: Path, tmp_path: Path, runtime: str) -> None:
        assert status_of(script(root, tmp_path, ">/tmp/x", read_only=True), runtime) != 0
        assert not (root / "tmp/x").exists()

    def test_no_network(
        self, root: Path, tmp_path: Path, runtime: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        text = "cat /proc/self/net/dev"
        assert status_of(script(root, tmp_path, text, private_network=True), runtime) == 0
        assert capfd.readouterr().out.count("\n") == 3  # two of heading, and lo
        assert status_of(script(root, tmp_path, text, private_network=False), runtime) == 0
        with open("/proc/self/net/dev") as here:
            assert capfd.readouterr().out.count("\n") == here.read().count("\n")

    def test_nothing_is_left(self, root: Path, tmp_path: Path, runtime: str) -> None:
        before = set(os.listdir("/proc/self/fd"))
        assert status_of(script(root, tmp_path, "exit 3"), runtime) == 3
        assert set(os.listdir("/proc/self/fd")) == before
        states = [path for path in tmp_path.glob("*/*") if path.is_dir()]
        assert states == []

    def test_a_program_that_cannot_start_is_the_runtime_s_failure(
        self, root: Path, tmp_path: Path, runtime: str
    ) -> None:
        with pytest.raises(RuntimeFailedError, match=runtime):
            status_of(job(root, tmp_path, ("/bin/none",)), runtime)

    @pytest.mark.parametrize("sent", [[signal.SIGTERM], [signal.SIGUSR1], [signal.SIGHUP]])
    def test_signals_reach_the_process(
        self, root: Path, tmp_path: Path, runtime: str, sent: list[signal.Signals]
    ) -> None:
        name = sent[0].name.removeprefix("SIG")
        text = f"trap 'echo got; exit 9' {name}; echo ready; while :; do sleep 0.05; done"
        assert _signalled(script(root, tmp_path, text), runtime, tmp_path, sent) == (9, "got\n")

    def test_the_third_request_to_end_is_not_asked(
        self, root: Path, tmp_path: Path, runtime: str
    ) -> None:
        text = "trap '' TERM INT; echo ready; while :; do sleep 0.05; done"
        sent = [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]
        status, _ = _signalled(script(root, tmp_path, text), runtime, tmp_path, sent)
        assert status == 128 + 9


def _signalled(
    job: Job, runtime: str, tmp_path: Path, sent: list[signal.Signals]
) -> tuple[int, str]:
    """Run *job* in a process of its own, signal that; return its status and output."""
    program = f"""
        import json, sys
        from unionfs.container import runtime
        from unionfs.container.runtime import Job, run_job
        from unionfs.container.supervise import signals_held
        runtime._CGROUP2 = "/none"
        with open({str(tmp_path / "config.json")!r}) as file:
            job = Job(json.load(file), {job.bundle!r}, {job.name!r})
        with signals_held():
            sys.exit(run_job(job, {runtime!r}, print))
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    with child.stdout as stream:
        assert stream.readline() == "ready\n"
        for number in sent:
            child.send_signal(number)
            time.sleep(0.2)
        rest = stream.read()
    return child.wait(30), rest


@pytest.mark.needs_root
@pytest.mark.parametrize(
    "runtime", [name for name in INSTALLED if name != "bubblewrap"], indirect=True
)
def test_another_user(
    root: Path, tmp_path: Path, runtime: str, capfd: pytest.CaptureFixture[str]
) -> None:
    user = User(1000, 1001, (44,), "/home/alice")
    wanted = job(root, tmp_path, ("/bin/sh", "-c", "id -u; id -g; id -G; echo $HOME; >/x"), user)
    assert status_of(wanted, runtime) != 0
    assert capfd.readouterr().out == "1000\n1001\n1001 44\n/home/alice\n"
    assert not (root / "x").exists()


def test_bubblewrap_says_that_it_knows_no_users(root: Path, tmp_path: Path) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bwrap is not installed")
    with pytest.raises(RuntimeFailedError, match="cannot run a process as user 1000:1001"):
        status_of(job(root, tmp_path, ("/bin/id",), User(1000, 1001)), "bubblewrap")


@pytest.mark.skipif(not runtimes.HYBRID, reason="crun works with these cgroups")
def test_crun_is_not_tried_where_it_cannot_work(root: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailedError, match="crun: does not work with hybrid cgroups"):
        status_of(job(root, tmp_path, ("/bin/id",)), "crun")


def test_no_runtime_at_all(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoRuntimeError, match="crun, runc or bubblewrap is not installed"):
        status_of(job(root, tmp_path, ("/bin/id",)), None)
    with pytest.raises(NoRuntimeError, match="runc is not installed"):
        status_of(job(root, tmp_path, ("/bin/id",)), "runc")


def test_the_next_runtime_is_tried(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    _program(programs / "runc", "echo runc is broken >&2; exit 1")
    _program(
        programs / "bwrap",
        'printf \'{"child-pid": 1}\\n{"exit-code": 5}\\n\' >/proc/self/fd/$2; exit 5',
    )
    monkeypatch.setenv("PATH", f"{programs}:/bin:/usr/bin")
    monkeypatch.setattr("unionfs.container.runtime._hybrid_cgroups", lambda: True)
    notes: list[str] = []
    with signals_held():
        assert run_job(job(root, tmp_path, ("/bin/id",)), None, notes.append) == 5
    assert notes == ["runc could not start the process"]


INTERRUPTING = {
    "before there is a process": "kill -TERM $PPID; exec sleep 60",
    "that Go's process 1 cannot die of": """
        printf 'runc:[2:INIT]' >/proc/$$/comm
        echo $$ >"$5"
        trap 'exit 2' TERM
        kill -TERM $PPID
        while :; do sleep 0.05; done""",
}


@pytest.mark.parametrize("text", INTERRUPTING.values(), ids=INTERRUPTING.keys())
def test_a_signal_that_ends_the_runtime_is_the_status_and_no_other_is_tried(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    assert _status_of_fake(root, tmp_path, monkeypatch, text) == (128 + signal.SIGTERM, [])


def test_a_program_s_own_status_2_after_a_signal_is_its_own(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = INTERRUPTING["that Go's process 1 cannot die of"].replace("runc:[2:INIT]", "program")
    assert _status_of_fake(root, tmp_path, monkeypatch, text) == (2, [])


def _status_of_fake(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> tuple[int, list[str]]:
    """Run a job with a runc that is the shell script *text*; return the status and the notes."""
    programs = tmp_path / "programs"
    programs.mkdir()
    _program(programs / "runc", f'[ "$3" = run ] || exit 0\n{text}')
    _program(programs / "bwrap", "exit 0")
    monkeypatch.setenv("PATH", f"{programs}:/bin:/usr/bin")
    monkeypatch.setattr("unionfs.container.runtime._hybrid_cgroups", lambda: True)
    notes: list[str] = []
    with signals_held():
        return run_job(job(root, tmp_path, ("/bin/id",)), None, notes.append), notes


def _program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


class TestBubblewrapWords:
    def words(self, root: Path, **around: Any) -> list[str]:
        place = Surroundings(str(root), "tiny", **around)
        return bubblewrap_words(runtime_spec(Process(("x",), {}, "/", ""), User(), place), 7)

    @pytest.mark.parametrize("place", ["proc", "dev", "sys", "etc/resolv.conf"])
    @pytest.mark.parametrize("link", ["/tmp", "../../oldroot/etc", "/nowhere"])
    def test_a_link_for_a_mount_point_is_refused(
        self, tmp_path: Path, place: str, link: str
    ) -> None:
        (tmp_path / "etc").mkdir()
        (tmp_path / place).symlink_to(link)
        with pytest.raises(LinkedMountPointError, match=f"/{place} is a symbolic link"):
            self.words(tmp_path, binds=(("/etc/resolv.conf", "/etc/resolv.conf"),))

    def test_a_linked_parent_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "etc").symlink_to("/oldroot/etc")
        with pytest.raises(LinkedMountPointError):
            self.words(tmp_path, binds=(("/etc/resolv.conf", "/etc/resolv.conf"),))

    def test_missing_mount_points_are_bubblewrap_s_to_make(self, tmp_path: Path) -> None:
        assert "--proc" in self.words(tmp_path)

    def test_the_terminal_is_kept_only_where_it_cannot_be_typed_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        setting = tmp_path / "legacy_tiocsti"
        monkeypatch.setattr("unionfs.container.bubblewrap._TIOCSTI", str(setting))
        assert "--new-session" in self.words(tmp_path)
        assert "--new-session" in self.words(tmp_path, terminal=True)  # an older kernel
        setting.write_text("1\n")
        assert "--new-session" in self.words(tmp_path, terminal=True)
        setting.write_text("0\n")
        assert "--new-session" not in self.words(tmp_path, terminal=True)

    def test_without_privilege_root_is_the_caller(self, tmp_path: Path) -> None:
        assert "--unshare-user" in self.words(tmp_path, rootless=(1000, 1000))
        assert "--unshare-user" not in self.words(tmp_path)


def test_the_document_without_privilege() -> None:
    around = Surroundings("/r", "tiny", rootless=(1000, 1001))
    linux = runtime_spec(Process(("x",), {}, "/", ""), User(), around)["linux"]
    assert {"type": "user"} in linux["namespaces"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert linux["gidMappings"] == [{"containerID": 0, "hostID": 1001, "size": 1}]
    assert "resources" not in linux


def test_no_limit_is_raised() -> None:
    document = runtime_spec(Process(("x",), {}, "/", ""), User(), Surroundings("/r", "tiny"))
    assert "rlimits" not in document["process"]


def test_an_ordinary_user_holds_nothing() -> None:
    user = User(1000, 1000)
    document = runtime_spec(Process(("x",), {}, "/", ""), user, Surroundings("/r", "tiny"))
    assert document["process"]["capabilities"]["effective"] == []
    assert document["process"]["capabilities"]["bounding"] == list(CAPABILITIES)


def test_what_the_image_says_of_the_environment_stands() -> None:
    process = Process(("x",), {"PATH": "/p", "HOME": "/h"}, "/", "")
    around = replace(Surroundings("/r", "tiny"), terminal=True)
    env = runtime_spec(process, User(home="/root"), around)["process"]["env"]
    assert sorted(env) == ["HOME=/h", "HOSTNAME=tiny", "PATH=/p", "TERM=xterm"]
