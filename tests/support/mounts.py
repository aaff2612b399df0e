"""Mounting layers in three ways: the kernel's overlayfs, the mount program, a daemon by fork.

Each is a context manager with a ``root``; each unmounts by exact path. The union's daemon must
leave by itself after its unmount and must not have logged an error: that is checked at every exit,
so that every test that mounts is also a test of that.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol

from tests.support import kernel
from tests.support.stacks import IN_NAMESPACE, ORDINARY, Layers

KERNEL_OPTIONS = b"redirect_dir=on,index=on,xino=on,nfs_export=off,metacopy=off"
# For layers without any redirect, to be only looked at: in a user namespace too.
READING_OPTIONS = b"userxattr" if IN_NAMESPACE else KERNEL_OPTIONS
METACOPY_OPTIONS = KERNEL_OPTIONS.replace(b"metacopy=off", b"metacopy=on")
# As a local filesystem; mount programs are nodev otherwise, and an ordinary user always.
UNION_OPTIONS = () if ORDINARY else (b"dev", b"suid")
OURS = [sys.executable, "-m", "unionfs"]
# Another program to put in our place, to try the tests themselves: "fuse-overlayfs", say, or
# "kernel" for the kernel's overlayfs in both places of the property tests.
PROGRAM = shlex.split(os.environ.get("UNIONFS_TEST_PROGRAM", "")) or OURS
LIFE_SECONDS = 7200 if os.environ.get("HYPOTHESIS_PROFILE") == "full" else 600
OVERRIDE = "user.containers.override_stat"
_LEAVE_SECONDS = 15
_PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_BAD_LOG = re.compile(rb"Traceback|\b(ERROR|CRITICAL|error)\b")


class Mounted(Protocol):
    """What the tests need of a mount, whoever made it."""

    root: bytes

    def __enter__(self) -> Mounted: ...

    def __exit__(self, kind, error, trace) -> None: ...


class MountFailed(AssertionError):
    """The mount did not come up; the message is what the program said."""


def _made(target: bytes) -> bytes:
    os.makedirs(target, exist_ok=True)
    return target


class KernelOverlay:
    """The kernel's overlayfs on *layers*; *options* replaces the defaults of the oracle."""

    def __init__(self, layers: Layers, target: bytes, *, options: bytes = KERNEL_OPTIONS) -> None:
        self.root = _made(target)
        data = layers.options() + b"," + options
        kernel.mount(b"overlay", target, b"overlay", 0, data)

    def __enter__(self) -> KernelOverlay:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kernel.mounted_at(self.root) is not None:  # a test may have unmounted it
            kernel.umount(self.root)


class _Daemon:
    """What both ways to our daemon share: the log, and the end of the mount."""

    root: bytes
    log: bytes
    pid: int
    expect_errors = False  # a test that provokes a logged error sets this

    def __enter__(self):
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType
    ) -> None:
        try:
            self.unmount()
        except Exception:
            if kind is None:
                raise
        finally:
            text = self.logged()
            bad = not self.expect_errors and _BAD_LOG.search(text)
            if text and (kind is not None or bad):
                print(f"log of the daemon of {self.root!r}:\n{text.decode(errors='replace')}")
        assert kind is not None or not bad, "the daemon logged an error: see its log"

    def logged(self) -> bytes:
        """Return what the daemon has said so far."""
        try:
            with open(self.log, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def unmount(self) -> None:
        """Unmount, and fail unless the daemon leaves by itself with status 0."""
        try:
            if kernel.mounted_at(self.root) is not None:
                kernel.umount(self.root)
        except OSError:  # something holds it: leave nothing behind all the same
            kernel.umount(self.root, kernel.MNT_DETACH | kernel.UMOUNT_NOFOLLOW)
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
            raise
        status = self.wait()
        said = self.logged().decode(errors="replace")[-4000:]
        assert status == 0, f"the daemon's exit status is {status}; it said:\n{said}"

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send the daemon a signal, wait for its end and take its dead mount away."""
        os.kill(self.pid, number)
        self.wait()
        if kernel.mounted_at(self.root) is not None:
            kernel.umount(self.root, kernel.MNT_DETACH | kernel.UMOUNT_NOFOLLOW)

    def wait(self) -> int:
        """Return the exit status of the daemon, once it has left."""
        raise NotImplementedError


class HelperMount(_Daemon):
    """The mount program in the foreground as a child: ``PROGRAM -f -o OPTIONS TARGET``."""

    def __init__(
        self,
        layers: Layers,
        target: bytes,
        *,
        options: Sequence[bytes] = UNION_OPTIONS,
        program: Sequence[str] = PROGRAM,
        user: int | None = None,
        descriptors: int | None = None,
        cwd: bytes | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.root = _made(target)
        self.log = target + b".log"
        words = b",".join((layers.options(), *options, *_more_options(layers)))
        command = [*program, "-f", "-o", words, target]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=cwd,
                env={**os.environ, "PYTHONPATH": _path(), **(env or {})},
                user=user,
                preexec_fn=_limits(descriptors),
            )
        self.pid = self.process.pid
        self._await_mount()

    def _await_mount(self) -> None:
        """Return when requests are answered; on failure raise with what the program said."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if (kernel.mounted_at(self.root) or b"").startswith(b"fuse"):
                os.lstat(self.root)
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.005)
        self.process.kill()
        status = self.process.wait()
        if kernel.mounted_at(self.root) is not None:
            kernel.umount(self.root, kernel.MNT_DETACH | kernel.UMOUNT_NOFOLLOW)
        raise MountFailed(f"exit status {status}: {self.logged().decode(errors='replace')}")

    def wait(self) -> int:
        try:
            return self.process.wait(_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the daemon did not leave after the unmount") from None


def _path() -> str:
    """Return what Python is to look in: this project first, then what we were told."""
    return os.pathsep.join(filter(None, (_PROJECT, os.environ.get("PYTHONPATH"))))


def _more_options(layers: Layers) -> Sequence[bytes]:
    """Return options that a module of tests wants for all its mounts, of *layers* this time.

    Where owners are to be in an attribute, the upper's root gets it with what it is.
    """
    found = [os.fsencode(words) for words in os.environ.get("UNIONFS_TEST_OPTIONS", "").split()]
    if b"xattr_permissions=2" in found and layers.upper is not None:
        st = os.stat(layers.upper)
        shown = f"{st.st_uid}:{st.st_gid}:0{st.st_mode & 0o7777:o}:dir".encode()
        try:
            os.setxattr(layers.upper, OVERRIDE, shown, os.XATTR_CREATE)
        except FileExistsError:
            pass
    return found


def _limits(descriptors: int | None):
    def before_exec() -> None:
        signal.alarm(LIFE_SECONDS)  # survives exec: a daemon that hangs cannot hang the tests
        if descriptors is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    return before_exec


class Spawner:
    """The parent of daemons made by fork; see ``tests.support.spawner``.

    *how* says as whom and where it is to run, if not as the tests do.
    """

    def __init__(
        self, env: dict[str, str] | None = None, python: str = sys.executable, **how: Any
    ) -> None:
        self._process = subprocess.Popen(
            [python, "-m", "tests.support.spawner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **{"cwd": _PROJECT, "env": {**os.environ, **(env or {})}, **how},
        )

    def ask(self, **request) -> dict:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the spawner is dead: see its standard error"
        return json.loads(answer)

    def close(self) -> None:
        self._process.communicate(timeout=30)


class Spawners:
    """A spawner for each way to have the extension or not to have it, when it is needed."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, ...], Spawner] = {}

    def chosen(self) -> Spawner:
        """Return the one that the environment asks for now."""
        way = tuple(os.environ.get(name, "") for name in ("UNIONFS_PURE", "UNIONFS_RELAY"))
        if way not in self._made:
            self._made[way] = Spawner()
        return self._made[way]

    def close(self) -> None:
        """End them all."""
        for spawner in self._made.values():
            spawner.close()


class SessionMount(_Daemon):
    """Our daemon, forked by *spawner*: as HelperMount, a hundred times faster to start.

    *descriptors*: how many the daemon may have open.
    With *container* it reads the layers as those of a container of the store, with *indexed* it has
    a merged index of the lowers, if they can have one; ASKED: in which attributes do not hold; else
    the file that is one.
    """

    def __init__(
        self,
        layers: Layers,
        target: bytes,
        spawner: Spawner,
        *,
        options: Sequence[bytes] = UNION_OPTIONS,
        descriptors: int | None = None,
        container: bool = False,
        indexed: bool | str = False,
    ) -> None:
        self.root = _made(target)
        self.log = target + b".log"
        self._spawner = spawner
        answer = spawner.ask(
            mount=os.fsdecode(b",".join((layers.options(), *options, *_more_options(layers)))),
            target=os.fsdecode(target),
            log=os.fsdecode(self.log),
            descriptors=descriptors,
            container=container,
            indexed=indexed,
        )
        if "error" in answer:
            raise MountFailed(answer["error"])
        self.pid = answer["pid"]
        self._status: int | None = None

    def wait(self) -> int:
        if self._status is None:
            self._status = self._spawner.ask(wait=self.pid)["status"]
        return self._status
