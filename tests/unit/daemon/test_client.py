"""Unmounting: what is ours, who keeps it busy, what a killed daemon left."""

import mmap
import os
import signal
import subprocess
import sys

import pytest

from tests.support import fake_session
from unionfs.daemon import client
from unionfs.daemon.holders import _as_in_maps
from unionfs.errors import ConflictError, NotFoundError
from unionfs.syscalls.mount import MNT_DETACH, mount, mounts_at, umount


@pytest.fixture
def daemon(tmp_path):
    """The pid of a daemon that serves a fake mount on ``merged``."""
    point = tmp_path / "merged"
    point.mkdir()
    result = fake_session.start("ok", point)
    assert "pid" in result, result
    yield result["pid"]
    while mounts_at(os.fsencode(point)):
        umount(os.fsencode(point), MNT_DETACH)


@pytest.fixture
def mounted(tmp_path, daemon):
    """The path of the fake mount."""
    return os.fsencode(tmp_path / "merged")


@pytest.fixture
def holder():
    """Start ``holder(code)``, a Python process that says when it holds what *code* takes."""
    started = []

    def start(code, **kwargs):
        words = [sys.executable, "-c", f"import os, mmap\n{code}\nprint(flush=True); input()"]
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=True, **kwargs
        )
        started.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.communicate()


@pytest.mark.needs_fuse
class TestBusy:
    @pytest.mark.parametrize(
        "code",
        [
            "os.chdir({!r})",
            "fd = os.open({!r} + b'/file', os.O_RDONLY)",
            "fd = os.open({!r}, os.O_PATH)",
            "f = open({!r} + b'/file', 'rb'); "
            "m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ); f.close()",
        ],
    )
    def test_process_is_named_and_the_mount_stays(self, mounted, holder, code):
        process = holder(code.format(mounted))
        with pytest.raises(ConflictError, match=rf"in use by python[^ ]* \({process.pid}\)"):
            client.unmount(mounted)
        assert client.is_ours(mounted)
        client.unmount(mounted, lazy=True)
        assert not client.is_ours(mounted)

    @pytest.mark.needs_root
    def test_process_with_its_root_there_is_named(self, mounted, holder):
        process = holder(f"os.chroot({mounted!r}); os.chdir('/')")
        with pytest.raises(ConflictError, match=str(process.pid)):
            client.unmount(mounted)

    @pytest.mark.needs_root
    def test_mount_below_is_named(self, mounted, tmp_path):
        (tmp_path / "f").write_bytes(b"")
        mount(os.fsencode(tmp_path / "f"), mounted + b"/file", b"", 4096)
        try:
            with pytest.raises(ConflictError, match=r"the mount .*/merged/file"):
                client.unmount(mounted)
        finally:
            umount(mounted + b"/file")

    def test_many_are_counted(self, mounted, holder):
        for _ in range(7):
            holder(f"os.chdir({mounted!r})")
        with pytest.raises(ConflictError, match=r"\(\d+\)(, python[^ ]* \(\d+\)){4} and 2 more"):
            client.unmount(mounted)

    def test_a_mapping_alone_counts_no_other_device(self):
        assert _as_in_maps("0:52") == b"00:34" and _as_in_maps("259:3") == b"103:03"


@pytest.mark.needs_fuse
class TestStale:
    def test_killed_daemon(self, mounted, daemon):
        os.kill(daemon, signal.SIGKILL)
        assert client.wait_gone(daemon, 5)
        assert client.stale(mounted) and client.is_ours(mounted)
        client.unmount(mounted)
        assert not mounts_at(mounted) and os.listdir(mounted) == []

    def test_stale_and_busy(self, mounted, daemon, holder):
        holder(f"os.chdir({mounted!r})")
        os.kill(daemon, signal.SIGKILL)
        assert client.wait_gone(daemon, 5)
        client.unmount(mounted)
        assert not mounts_at(mounted)

    def test_a_living_one_is_not(self, mounted):
        assert not client.stale(mounted)


class TestNotOurs:
    def test_plain_directory(self, tmp_path):
        with pytest.raises(NotFoundError, match="is not a mount of unionfs"):
            client.unmount(os.fsencode(tmp_path))
        assert not client.is_ours(os.fsencode(tmp_path)) and not client.stale(os.fsencode(tmp_path))

    def test_missing(self, tmp_path):
        with pytest.raises(NotFoundError, match="no is not a mount"):
            client.unmount(os.fsencode(tmp_path / "no"))

    def test_another_file_system(self):
        with pytest.raises(NotFoundError, match="/proc is not a mount of unionfs"):
            client.unmount(b"/proc")
        assert client.is_mount_point(b"/proc")

    def test_root_directory_is_no_surprise(self):
        assert not client.is_mount_point(b"/")


class TestFusermount:
    """Where umount2 is not permitted, fusermount3's answers become ours."""

    @pytest.fixture
    def program(self, tmp_path, monkeypatch):
        def install(script):
            path = tmp_path / "bin" / "fusermount3"
            path.parent.mkdir()
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
            monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")

        return install

    def test_done(self, program, tmp_path):
        program(f'echo "$@" > {tmp_path}/words')
        assert client._fusermount_once(b"/m", True)
        assert (tmp_path / "words").read_text() == "-u -z -- /m\n"

    def test_busy(self, program):
        program("echo 'failed to unmount /m: Device or resource busy' >&2; exit 1")
        assert not client._fusermount_once(b"/m", False)

    def test_another_reason(self, program):
        program("echo 'fusermount3: entry for /m not found in /etc/mtab' >&2; exit 1")
        with pytest.raises(client.UnmountError, match="not found in /etc/mtab"):
            client._fusermount_once(b"/m", False)

    def test_missing(self, monkeypatch):
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(client.UnmountError, match="package fuse3"):
            client._fusermount_once(b"/m", False)


class TestWaitGone:
    def test_a_child_is_reaped(self):
        process = os.fork()
        if process == 0:
            os._exit(0)
        assert client.wait_gone(process, 5)
        with pytest.raises(ChildProcessError):
            os.waitpid(process, os.WNOHANG)

    def test_nobody(self):
        assert client.wait_gone(2**22 - 1, 0)

    def test_one_that_stays(self):
        assert not client.wait_gone(os.getppid(), 0.05)


@pytest.mark.needs_fuse
def test_a_mapping_of_the_mount_is_readable(mounted):
    """The fake session serves what the busy tests map."""
    with open(mounted + b"/file", "rb") as file:
        held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        assert held[:] == fake_session.CONTENT
        held.close()
