"""browse as a command: on a terminal, over images and containers; and what it says without one."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.anatomy import make_store
from tests.support.command import WORD, Cli

_SECONDS = 30


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    root = tmp_path_factory.mktemp("browse") / "store"
    make_store(root)
    return Cli(root)


class Terminal:
    """A terminal with the explorer in it."""

    def __init__(self, fd: int, process: subprocess.Popen[bytes]) -> None:
        self._fd, self.process = fd, process
        self.shown = b""

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def until(self, text: bytes) -> None:
        """Read what the program draws until *text* is there; what is drawn later counts anew."""
        end = time.monotonic() + _SECONDS
        while text not in self.shown:
            assert time.monotonic() < end, self.shown[-3000:]
            if select.select([self._fd], [], [], 0.2)[0]:
                self.shown += os.read(self._fd, 65536)
        self.shown = b""

    def leave(self) -> None:
        """Read to the end; the program must be leaving."""
        try:
            while data := os.read(self._fd, 65536):
                self.shown += data
        except OSError:  # EIO: the other end is closed
            pass
        assert self.process.wait(_SECONDS) == 0, self.shown


@contextmanager
def browsing(cli: Cli, subject: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    env = {**cli.env, "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [*WORD, "browse", subject], env=env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_an_image(cli: Cli) -> None:
    with browsing(cli, "anatomy") as terminal:
        terminal.until(b"as of layer 4")
        terminal.type(b"c")
        terminal.until(b"what layer 4 changes")
        terminal.type(b"q")
        terminal.leave()


@pytest.mark.needs_fuse
def test_a_mounted_container_while_it_changes(cli: Cli, target: Path) -> None:
    cli("create", "anatomy", "--name", "web")
    cli("mount", "web", str(target))
    (target / "before-it").write_text("1")
    for subject in ("web", str(target)):
        with browsing(cli, subject) as terminal:
            terminal.until(b"before-it")
            new = f"meanwhile-{len(subject)}"
            (target / new).mkdir()
            terminal.type(b"r")
            terminal.until(new.encode())
            terminal.type(b"q")
            terminal.leave()


def test_without_a_terminal(cli: Cli) -> None:
    assert cli.fails("browse", "anatomy") == (
        "browse needs a terminal; explain and image tree need none"
    )
    assert "nope" in cli.fails("browse", "nope")
    assert "browse is for people" in cli.fails("--json", "browse", "anatomy", status=2)
