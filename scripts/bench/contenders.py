"""Those that are compared: each mounts the same directories, and its daemon can be found."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from scripts.bench import crates
from scripts.bench.crates import AbsentError

OURS = "unionfs"
HOLLOW = ("floor", "floor-writeback")  # their files have no content
FLOORS = (*HOLLOW, "floor-disk", "floor-disk-asleep", "floor-settled")


@dataclass(frozen=True, slots=True)
class Stack:
    """One mount's directories: the lowers topmost first, and the three of its own.

    Relative ones are in *cwd*. Where *store* is one of ours, it has an image ``tower`` of the same
    layers, which our own contender mounts in their place. Without an *upper* (empty) it is mounted
    read-only. *passes*: who lets the kernel have files by itself only if asked to is asked.
    """

    lowers: tuple[str, ...]
    upper: str
    work: str
    merged: str
    cwd: str | None = None
    store: str = ""
    passes: bool = False

    def options(self) -> str:
        """Return them as every contender's ``-o`` takes them."""
        lower = f"lowerdir={':'.join(self.lowers)}"
        return f"{lower},upperdir={self.upper},workdir={self.work}" if self.upper else lower


@dataclass(frozen=True, slots=True)
class Contender:
    """A union filesystem: its name in the table, and its mount command up to the options.

    *passing_options* let the kernel have files by itself, where they are wanted.
    """

    name: str
    command: tuple[str, ...]
    more_options: str = ""
    passing_options: str = ""

    def words(self, stack: Stack) -> list[str]:
        """Return the command that mounts *stack*."""
        if stack.store and self.name == OURS:
            image = ("mount", "--image", "tower", stack.merged)
            return [*self.command, "--root", stack.store, *image]
        options = stack.options() + self.more_options
        if stack.passes:
            options += self.passing_options
        return [*self.command, "-o", options, stack.merged]

    @contextmanager
    def mounted(self, stack: Stack) -> Iterator[None]:
        """Mount for as long as the block lasts; its daemon has ended afterwards."""
        self.mount(stack)
        try:
            yield
        finally:
            self.unmount(stack)

    def mount(self, stack: Stack) -> None:
        """Mount, and ask one question, so that a mount which does not answer yet is no win."""
        # Not a pipe: a daemon that keeps it open would keep us waiting for its end.
        with tempfile.TemporaryFile() as said:
            words = self.words(stack)
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=stack.cwd
            )
            said.seek(0)
            if done.returncode:
                raise OSError(f"does not mount: {os.fsdecode(said.read()).strip()}")
        os.stat(stack.merged)

    def unmount(self, stack: Stack) -> None:
        """Unmount and wait for the daemon, which would steal time from the next measurement."""
        daemon = daemon_of(stack)
        subprocess.run(["umount", stack.merged], check=True)
        deadline = time.monotonic() + 30
        while daemon is not None and os.path.exists(f"/proc/{daemon}"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}'s daemon {daemon} outlives its mount")
            time.sleep(0.005)


@contextmanager
def spawner(ours: Contender, path: str) -> Iterator[None]:
    """Let our mounts be made by a resident spawner at the socket *path* during the block."""
    os.environ["UNIONFS_SERVE"] = path
    process = subprocess.Popen([*ours.command, "serve"])
    try:
        while not os.path.exists(path):
            if process.poll() is not None:
                raise OSError("the spawner does not start")
            time.sleep(0.01)
        time.sleep(0.1)  # it binds first and listens then
        yield
    finally:
        del os.environ["UNIONFS_SERVE"]
        process.terminate()
        process.wait()


def daemon_of(stack: Stack) -> int | None:
    """Return the process whose command line ends with the mount point; the kernel has none."""
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue  # it ended meanwhile
        if os.fsencode(stack.merged) in words:
            return int(name)
    return None


def resident_mib(pid: int) -> float:
    """Return a process's resident memory in MiB."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        line = next(line for line in file if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def all_contenders(cache: str, wanted: Sequence[str], user_namespace: bool) -> list[Contender]:
    """Return those of *wanted* that are here, and say why one is not."""
    found = []
    for name in wanted:
        try:
            command = _FIND[name](cache)
        except AbsentError as error:
            print(f"bench: without {name}: {error}", file=sys.stderr)
            continue
        more = _MORE.get(name, "")
        if name == "kernel" and user_namespace:
            more = ",userxattr"
        passes = name == OURS and not user_namespace  # which is the machine's root's to ask for
        found.append(Contender(name, command, more, ",data=passthrough" if passes else ""))
    return found


def _kernel(cache: str) -> tuple[str, ...]:
    return ("mount", "-t", "overlay", "overlay")


def _debians(cache: str) -> tuple[str, ...]:
    program = "/usr/bin/fuse-overlayfs"
    if not os.path.exists(program):
        raise AbsentError("not installed")
    return (program,)


def _crate(cache: str) -> tuple[str, ...]:
    """Install the newest published 2.x."""
    return (crates.program(cache, "fuse-overlayfs", "^2"),)


def _floor(cache: str) -> tuple[str, ...]:
    """Compile the server that does next to nothing, of which ``floor/floor.c`` tells."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise AbsentError("there is no cc to compile it with")
    sources = glob.glob(os.path.join(os.path.dirname(__file__), "floor", "*.c"))
    program = os.path.join(cache, "floor")
    words = [compiler, "-O2", "-o", program, *sources]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise AbsentError(f"cc does not compile it: {done.stderr.strip().splitlines()[:1]}")
    return (program,)


def _ours(cache: str) -> tuple[str, ...]:
    return (os.path.join(os.path.dirname(sys.executable), "unionfs"),)


_FIND = {
    "kernel": _kernel,
    "fuse-overlayfs": _debians,
    "fuse-overlayfs-rs": _crate,
    OURS: _ours,
    **dict.fromkeys(FLOORS, _floor),
}
_MORE = {
    "floor-writeback": ",writeback",
    "floor-disk": ",disk",
    "floor-disk-asleep": ",disk,asleep",
    "floor-settled": ",disk,settled",
}
NAMES = tuple(name for name in _FIND if name not in FLOORS)
