"""The resident spawner for tests, those who ask it, and what stands at its socket in its place."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.support.command import REPO, WORD
from unionfs.daemon import resident

COMPILED = Path(sys.executable).parent / "unionfs"  # where setup.py puts it


class Spawner:
    """A spawner at ``path``; it lives elsewhere than its callers."""

    def __init__(self, path: Path, words: Sequence[str] = (*WORD, "serve")) -> None:
        self.path = path
        env = asking_at(path)
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

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


class FalseSpawner:
    """Listens at ``path``, hears one message of each caller, and answers *answers* one by one.

    With None in the place of answers it hears nothing and hangs up. ``heard`` has the messages, and
    with each the files (device and inode) that came after the first answer, if it was ``TAKEN``.
    """

    def __init__(self, path: Path, answers: Sequence[bytes] | None, *, stays: bool = False) -> None:
        self.heard: list[tuple[bytes, list[tuple[int, int]]]] = []
        self._answers, self._stays = answers, stays
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                if self._answers is not None:
                    self._answer(connection, self._answers)

    def _answer(self, connection: socket.socket, answers: Sequence[bytes]) -> None:
        files: list[tuple[int, int]] = []
        message = connection.recv(1 << 20)
        if message:
            self.heard.append((message, files))
        try:
            for answer in answers:
                connection.send(answer)
                if answer == resident.TAKEN:
                    files += _files(connection)
            if self._stays:
                connection.recv(1)
        except OSError:
            pass  # the caller has left

    def end(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


def _files(connection: socket.socket) -> list[tuple[int, int]]:
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 8)
    files = [os.fstat(descriptor) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    return [(file.st_dev, file.st_ino) for file in files]


def asking_at(path: Path) -> dict[str, str]:
    """Return the environment of those who ask at *path*."""
    return {**os.environ, "UNIONFS_SERVE": str(path), "PYTHONPATH": REPO}


def daemon(here: Path) -> int:
    """Return the process that has the upper directory of *here* open."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            links = [os.readlink(f"/proc/{name}/fd/{fd}") for fd in os.listdir(f"/proc/{name}/fd")]
        except OSError:
            continue
        if str(here / "up") in links:
            return int(name)
    raise AssertionError("there is no daemon")


def is_resident_s(pid: int) -> bool:
    """Return whether a spawner forked the process, by its words, which a fork keeps."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-2] == b"serve"


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        return probe.connect_ex(str(path)) == 0
