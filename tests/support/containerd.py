"""containerd from Debian's package, started by hand: a root, a state and a socket of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support.engines import REPO, Done, mount_program, soon
from unionfs.syscalls.mount import mount, umount

SHIMS = "/run/containerd"  # where shims have their sockets, whatever the state directory is
_CONFIG = """
version = 2
root = "{place}/root"
state = "{place}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt",
    "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "{place}/socket"
[ttrpc]
address = "{place}/socket.ttrpc"
[proxy_plugins.unionfs]
type = "snapshot"
address = "{place}/snapshotter"
[plugins."io.containerd.gc.v1.scheduler"]
deletion_threshold = 1
"""


class Containerd:
    """A running containerd whose files are in *place*."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.layers = place / "layers"
        self.env = {**os.environ, "PATH": f"{place}:{os.environ['PATH']}:/usr/sbin:/sbin"}

    def run(self, *words: str | Path, status: int | None = 0, **options: Any) -> Done:
        """Run ctr, which ends with *status* if that is not None."""
        options = {"capture_output": True, "text": True, "timeout": 60} | options
        command = ["ctr", "--address", f"{self.place}/socket", *map(str, words)]
        done = subprocess.run(command, env=self.env, check=False, **options)
        assert status in (None, done.returncode), (words, done.stdout, done.stderr, self.log())
        return done

    def ctr(self, *words: str | Path, **options: Any) -> str:
        """Run ctr; return what it prints."""
        return self.run(*words, **options).stdout

    def log(self) -> str:
        """Return the end of what the daemon has logged."""
        return (self.place / "log").read_text()[-2000:]

    def directories(self) -> dict[str, Path]:
        """Return each snapshot that the snapshotter has, and what is written in it.

        containerd's names for it are ``NAMESPACE/NUMBER/NAME``.
        """
        numbers = json.loads((self.layers / "names").read_text())
        return {
            name.split("/", 2)[2]: self.layers / str(number) / "fs"
            for name, number in numbers.items()
        }


@contextmanager
def containerd(place: Path) -> Iterator[Containerd]:
    """Start containerd and the snapshotter in *place*; end them afterwards."""
    mount_program(place)
    (place / "layers").mkdir()
    (place / "config").write_text(_CONFIG.format(place=place))
    engine = Containerd(place)
    with ExitStack() as stack:
        _own_directory_for_shims(stack)
        words = [sys.executable, "-m", "tests.support.snapshotter", f"{place}/snapshotter"]
        _start(stack, [*words, f"{place}/layers"], cwd=REPO)
        assert soon((place / "snapshotter").exists)
        log = stack.enter_context((place / "log").open("w"))
        daemon = ["containerd", "--config", f"{place}/config", "--log-level", "warn"]
        _start(stack, daemon, env=engine.env, stdout=log, stderr=log)
        assert soon(lambda: engine.run("version", status=None).returncode == 0), engine.log()
        yield engine


def _own_directory_for_shims(stack: ExitStack) -> None:
    if not os.path.isdir(SHIMS):
        os.mkdir(SHIMS)
        stack.callback(os.rmdir, SHIMS)
    mount(b"tmpfs", os.fsencode(SHIMS), b"tmpfs")
    stack.callback(umount, os.fsencode(SHIMS))


def _start(stack: ExitStack, words: list[str], **options: Any) -> None:
    process = stack.enter_context(subprocess.Popen(words, **options))
    stack.callback(process.terminate)
