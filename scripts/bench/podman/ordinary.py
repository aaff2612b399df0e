"""Who runs Podman: root, the ordinary user who calls, or one that root makes up for the bench.

What the made-up user needs is bound over in the bench's own mount namespace and nowhere else: his
name and subordinate IDs in /etc, a /dev/fuse that is open to all, as distributions have it, and
directories on the way to our program and its Python, which may lie in root's home.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from unionfs.syscalls.mount import MNT_DETACH, mount, umount

_ID, _NAME, _SUBORDINATE = 4712, "unionfs-bench", 400_000
_MS_BIND, _MS_REC = 0x1000, 0x4000
_REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
_FUSE = os.makedev(10, 229)
_LINES = {
    "passwd": f"{_NAME}:x:{_ID}:{_ID}::/nonexistent:/bin/sh\n",
    "group": f"{_NAME}:x:{_ID}:\n",
    "subuid": f"{_NAME}:{_SUBORDINATE}:65536\n",
    "subgid": f"{_NAME}:{_SUBORDINATE}:65536\n",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """One whose programs ``run`` runs, with *env* beside our own; *uid* None: whoever we are.

    *place* is where his stores are to be.
    """

    place: str
    uid: int | None = None
    env: dict[str, str] = field(default_factory=dict)

    @property
    def is_root(self) -> bool:
        """Return whether this is root."""
        return self.uid is None and os.geteuid() == 0

    def run(self, words: Sequence[str], said: IO[str], errors: IO[str], **env: str) -> int:
        """Run a program to its end; return its status."""
        who: dict[str, Any] = {"user": self.uid, "group": self.uid, "extra_groups": []}
        done = subprocess.run(
            words,
            env={**os.environ, **self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=errors,
            cwd=self.place,
            **(who if self.uid is not None else {}),
        )
        return int(done.returncode)

    def give(self, path: str) -> None:
        """Make the file or directory *path* his."""
        if self.uid is not None:
            os.chown(path, self.uid, self.uid)

    def short_directory(self) -> str:
        """Make a directory of his with a short path; return it."""
        path = tempfile.mkdtemp(prefix="up", dir="/tmp")
        self.give(path)
        return path


@contextlib.contextmanager
def caller(cache: str, reads: Sequence[str], *, ordinary: bool) -> Iterator[Caller]:
    """Whoever calls, in a new directory of *cache*; as root and *ordinary* a user made up.

    *reads* are directories that he reads as well. Raises OSError.
    """
    with contextlib.ExitStack() as stack:
        made_up = ordinary and os.geteuid() == 0
        if made_up:
            _set_up_machine(stack, [_REPO, sys.base_prefix, cache, *reads])
        place = stack.enter_context(tempfile.TemporaryDirectory(dir=cache, prefix="podman-"))
        if made_up:
            os.chown(place, _ID, _ID)
        yield Caller(place, _ID, {"HOME": place}) if made_up else Caller(place)


def _set_up_machine(stack: contextlib.ExitStack, reads: Sequence[str]) -> None:
    at = tempfile.mkdtemp(prefix="ub", dir="/tmp")
    stack.callback(shutil.rmtree, at)
    os.chmod(at, 0o755)
    device = os.path.join(at, "fuse")
    os.mknod(device, stat.S_IFCHR | 0o666, _FUSE)
    os.chmod(device, 0o666)
    _bind(stack, device, "/dev/fuse")
    for name, line in _LINES.items():
        longer = os.path.join(at, name)
        with open(f"/etc/{name}", encoding="utf-8") as old, open(longer, "x") as new:
            new.write(old.read() + line)
            os.fchmod(new.fileno(), 0o644)
        _bind(stack, longer, f"/etc/{name}")
    for number, (top, inside) in enumerate(_closed(reads).items()):
        _open_the_way(stack, os.path.join(at, str(number)), top, inside)


def _closed(paths: Sequence[str]) -> dict[str, set[str]]:
    """Return the directories that only root may enter, and which of *paths* they lead to."""
    found: dict[str, set[str]] = {}
    for path in map(os.path.realpath, paths):
        parts = path.split("/")
        above = ["/".join(parts[:end]) for end in range(2, len(parts) + 1)]
        top = next((each for each in above if not os.stat(each).st_mode & 0o001), None)
        if top is not None:
            found.setdefault(top, set()).add(path)
    return found


def _open_the_way(stack: contextlib.ExitStack, at: str, top: str, inside: set[str]) -> None:
    """Let everybody enter *top*, which then has nothing else than what is *inside*."""
    os.mkdir(at, 0o755)
    for path in sorted(inside):
        if not any(path.startswith(other + "/") for other in inside):
            target = at + path.removeprefix(top)
            os.makedirs(target, 0o755, exist_ok=True)
            _bind(stack, path, target)
    _bind(stack, at, top)


def _bind(stack: contextlib.ExitStack, source: str, target: str) -> None:
    mount(os.fsencode(source), os.fsencode(target), b"none", _MS_BIND | _MS_REC, b"")
    stack.callback(umount, os.fsencode(target), MNT_DETACH)


def lacks_subordinate_ids() -> bool:
    """Return whether the ordinary user who calls has no subordinate user IDs."""
    try:
        with open("/etc/subuid", encoding="utf-8") as file:
            owners = {line.partition(":")[0] for line in file}
    except FileNotFoundError:
        return True
    return owners.isdisjoint({str(os.getuid()), pwd.getpwuid(os.getuid()).pw_name})
