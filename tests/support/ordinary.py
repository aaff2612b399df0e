"""An ordinary user for tests that root runs: with /dev/fuse, subordinate IDs, and a Python to use.

All of it is in the mount namespace of the tests: the device and the files in /etc are bound over
there and nowhere else.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support import kernel, leftovers

UID = GID = 4711
NAME = "unionfs-test"
SUBORDINATE = 300_000  # the first of 65,536 IDs that are his as well
_MS_BIND = 4096
_REPO = Path(__file__).parents[2]
_LINES = {
    "passwd": f"{NAME}:x:{UID}:{GID}:a user of the tests:/nonexistent:/bin/sh\n",
    "group": f"{NAME}:x:{GID}:\n",
    "subuid": f"{NAME}:{SUBORDINATE}:65536\n",
    "subgid": f"{NAME}:{SUBORDINATE}:65536\n",
    "fuse.conf": "user_allow_other\n",
}


class User:
    """Runs programs as the user; ``home`` is his, and ``env`` what his programs get."""

    def __init__(self, home: Path, python: str, env: dict[str, str]) -> None:
        self.home = home
        self.python = python
        self.env = env

    def run(self, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        options = {"capture_output": True, "text": True, "timeout": 100} | options
        return subprocess.run([*map(str, words)], check=False, **self._options(options))

    def start(self, *words: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Start a program."""
        return subprocess.Popen([*map(str, words)], text=True, **self._options(options))

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        env = {**self.env, **options.pop("env", {})}
        who = {"user": UID, "group": GID, "extra_groups": []}
        return {"cwd": self.home, "env": env, **who, **options}

    def unionfs(self, *words: str | Path, status: int = 0, **options: Any) -> str:
        """Run our command, which ends with *status*; return what it prints."""
        done = self.run(self.python, "-m", "unionfs", *words, **options)
        assert done.returncode == status, (words, done)
        assert status or not done.stderr, (words, done)
        return done.stdout

    def script(self, text: str, *words: str | Path) -> str:
        """Run a Python program with ``sys.argv[1:]`` being *words*; return what it prints."""
        done = self.run(self.python, "-c", text, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def ordinary_user(place: Path) -> Iterator[User]:
    """A user whose home is below *place*, for as long as the block runs; needs root."""
    if not leftovers.in_own_namespace():
        kernel.own_mount_namespace()
    _open_the_way(place)
    home = place / "home"
    home.mkdir(mode=0o700)
    os.chown(home, UID, GID)
    with ExitStack() as stack:
        device = place / "fuse"
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(10, 229))
        device.chmod(0o666)
        _bind(stack, device, "/dev/fuse")
        for name, line in _LINES.items():
            _bind(stack, _longer(place, name, line), f"/etc/{name}")
        yield User(home, *_python(place, home))


def _open_the_way(place: Path) -> None:
    """Let everybody enter *place*, whose parents are this run's."""
    for at in (place, *place.parents):
        mode = at.stat().st_mode & 0o7777
        if mode & 0o011 != 0o011:
            at.chmod(mode | 0o011)


def _bind(stack: ExitStack, source: Path, target: str) -> None:
    kernel.mount(os.fsencode(source), target.encode(), b"", _MS_BIND)
    stack.callback(kernel.umount, target.encode(), kernel.MNT_DETACH)


def _longer(place: Path, name: str, line: str) -> Path:
    """Return a copy of /etc's file *name* with one more *line*; it must be there to be bound."""
    original = Path("/etc", name)
    original.touch()
    copy = place / name
    copy.write_text(original.read_text() + line)
    copy.chmod(0o644)
    return copy


def _python(place: Path, home: Path) -> tuple[str, dict[str, str]]:
    """Return a Python that the user may run, and his environment, with our package in it."""
    ours = place / "python"
    ours.mkdir()
    keep = shutil.ignore_patterns("mypy*", "ruff*", "pip*")  # the bytecode too: he can write none
    shutil.copytree(_REPO / "unionfs", ours / "unionfs", ignore=keep)
    shutil.copytree(_REPO / "tests", ours / "tests", ignore=keep)
    shutil.copy(_REPO / "pyproject.toml", ours)
    (ours / ".cache/tmp").mkdir(parents=True)  # where ``machine.test_root`` looks
    libraries = Path(__import__("pyfuse3").__file__).parents[1]
    if not _reachable(libraries):
        shutil.copytree(libraries, ours / "libraries", ignore=keep)
        libraries = ours / "libraries"
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": f"{ours}:{libraries}",
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "TMPDIR": str(home),
        "LC_ALL": "C.UTF-8",
        "UNIONFS_PURE": os.environ.get("UNIONFS_PURE", ""),
        "UNIONFS_TEST_SESSION": os.environ.get("UNIONFS_TEST_SESSION", ""),
    }
    return _interpreter(env), env


def _interpreter(env: dict[str, str]) -> str:
    """Return the path of a Python of this one's version which does not lie in root's home."""
    mine = os.path.realpath(sys.executable)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (mine, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        test = [candidate, "-c", "import pyfuse3, trio, xattr, zstandard, rich"]
        if os.path.exists(candidate) and _reachable(Path(candidate)):
            done = subprocess.run(
                test,
                env=env,
                user=UID,
                group=GID,
                extra_groups=[],
                capture_output=True,
                check=False,
            )
            if done.returncode == 0:
                return candidate
    raise AssertionError(f"no {version} outside root's home: install Debian's {version}")


def _reachable(path: Path) -> bool:
    """Return whether everybody may enter the directories that lead to *path*."""
    return all(at.stat().st_mode & 0o001 for at in (path, *path.resolve().parents))


@contextmanager
def mounted(user: User, place: Path, options: str, *, killed: bool = False) -> Iterator[Path]:
    """Mount the layer ``lower`` of *place* with its ``upper`` and ``work`` as the user.

    With *killed* the daemon is killed in the end, whoever is still using the mount.
    """
    words = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work{options}"
    merged = place / "merged"
    program = user.start(user.python, "-m", "unionfs", "-f", "-o", words, merged)
    try:
        _await_mount(program, merged)
        yield merged
    finally:
        if killed:
            program.kill()
        _unmount(user, "-uz" if killed else "-u", merged)
        assert program.wait(20) == (-signal.SIGKILL if killed else 0)


def _unmount(user: User, how: str, merged: Path) -> None:
    """Unmount what is mounted; a killed process closes its files a moment before it leaves."""
    end = time.monotonic() + 20
    while (done := user.run("fusermount3", how, merged)).returncode and _is_mounted(merged):
        assert "busy" in done.stderr and time.monotonic() < end, done
        time.sleep(0.05)


def _is_mounted(merged: Path) -> bool:
    return (kernel.mounted_at(os.fsencode(merged)) or b"").startswith(b"fuse")


def _await_mount(program: subprocess.Popen[str], merged: Path) -> None:
    end = time.monotonic() + 20
    while not _is_mounted(merged):
        assert program.poll() is None and time.monotonic() < end
        time.sleep(0.005)
