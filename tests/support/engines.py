"""Podman, Buildah and Skopeo from Debian's packages, each with a store and state of its own.

What the engines know they are told by two files, ``containers.conf`` and ``storage.conf``, which
lie with everything else that they write in one directory of the test. Networks, journals and
limits that need more than a small virtual machine has are left out. Podman's own database stays
where it is by itself: the clean-up after a container looks for it there in any case, and podman run
would wait twenty seconds for it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import leftovers
from unionfs.syscalls.mount import MNT_DETACH, mount_table, umount

REPO = Path(__file__).parents[2]
_CONTAINERS_CONF = """
[containers]
netns = "none"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
env = ["PATH=/bin", "{mark}"]
[network]
network_backend = "cni"
network_config_dir = "{place}/networks"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
tmp_dir = "{short}/tmp"
conmon_env_vars = ["PATH={path}", "{mark}"]
"""
_STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{place}/storage"
runroot = "{short}/run"
rootless_storage_path = "{place}/storage"
[storage.options.overlay]
mount_program = "{program}"
"""
_SHORT = ("/dev/shm", "/tmp")
Done = subprocess.CompletedProcess[str]


def as_root(*words: str, env: dict[str, str], **options: Any) -> Done:
    """Run a program as ourselves."""
    options = {"capture_output": True, "text": True, "timeout": 100} | options
    return subprocess.run(words, env={**os.environ, **env}, check=False, **options)


class Engine:
    """Engines with their store in *place*, which mount with *program* ("" is the kernel).

    *run* starts a program as whoever the engine is to be, and waits for it. What Podman
    has while it runs is in *short*, since it takes 50 characters at most. Engines with the same
    two directories and another *name* share a store.
    """

    def __init__(
        self,
        place: Path,
        short: Path,
        program: str,
        run: Callable[..., Done] = as_root,
        name: str = "ours",
    ) -> None:
        self.place = place
        self.short = short
        self.storage = place / "storage"
        self._run = run
        self.env = {
            "CONTAINERS_CONF": f"{place}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{place}/{name}.conf",
            "TMPDIR": str(place),
            "XDG_RUNTIME_DIR": str(short),
        }
        mark = leftovers.mark_this_session().decode()
        text = _CONTAINERS_CONF.format(place=place, short=short, path=os.environ["PATH"], mark=mark)
        (place / "containers.conf").write_text(text)
        (place / f"{name}.conf").write_text(
            _STORAGE_CONF.format(place=place, short=short, program=program)
        )

    def run(self, *words: str | Path, status: int | None = 0, **options: Any) -> Done:
        """Run an engine's command, which ends with *status* if that is not None."""
        done = self._run(*map(str, words), env=self.env, **options)
        assert status in (None, done.returncode), (words, done.returncode, done.stdout, done.stderr)
        return done

    def podman(self, *words: str | Path, **options: Any) -> str:
        """Run podman; return what it prints."""
        return self.run("podman", *words, **options).stdout

    def sh(self, name: str, script: str, **options: Any) -> str:
        """Run a shell's *script* in the running container *name*; return what it prints."""
        return self.podman("exec", name, "sh", "-ec", script, **options)

    def once(self, image: str, script: str, *words: str | Path) -> str:
        """Run a shell's *script* in a container of *image*, made for it; return what it prints."""
        return self.podman("run", "--rm", *words, image, "sh", "-ec", script)

    def layers(self, image: str) -> list[str]:
        """Return the digests of an image's layers, bottommost first."""
        return self.inspect("--type", "image", image)["RootFS"]["Layers"]

    def inspect(self, *words: str) -> Any:
        """Return what podman knows of one thing."""
        return json.loads(self.podman("inspect", *words))[0]

    def diff(self, *words: str) -> set[str]:
        """Return the changes, each a kind (A, C, D) and a path, without Podman's own."""
        lines = self.podman("diff", *words).splitlines()
        return {line for line in lines if line.split()[1] not in PODMANS_OWN}

    def mounts(self) -> list[bytes]:
        """Return where a FUSE filesystem is mounted for this store."""
        under = os.fsencode(self.storage)
        return [entry.target for entry in leftovers.fuse_mounts(under)]

    def clear(self) -> None:
        """Remove every container."""
        self.podman("rm", "--all", "--force", "--time", "0")

    def close(self) -> None:
        """Remove every container and image, and what the engines keep mounted."""
        self.clear()
        self.podman("rmi", "--all", "--force")
        under = os.fsencode(self.place) + b"/"
        for entry in reversed([e for e in mount_table() if e.target.startswith(under)]):
            umount(entry.target, MNT_DETACH)


class UsersEngine(Engine):
    """Engines of an ordinary user, who has a user and a mount namespace for all of them."""

    def mounts(self) -> list[bytes]:
        """Return where a FUSE filesystem is mounted for this store, in the user's namespace."""
        table = self.podman("unshare", "cat", "/proc/self/mountinfo").splitlines()
        ours = [line.split()[4] for line in table if " - fuse" in line]
        return [os.fsencode(at) for at in ours if at.startswith(f"{self.storage}/")]

    def close(self) -> None:
        """Remove everything, and end the process that keeps the user's namespaces."""
        self.clear()
        self.podman("rmi", "--all", "--force")
        self.podman("system", "migrate")


PODMANS_OWN = {"/etc", "/etc/mtab", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv"}


def daemons(point: bytes) -> dict[int, bytes]:
    """Return the processes that were told to mount at *point*, and their command lines."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", pid, "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words.rstrip(b"\0").endswith(b"\0" + point):
            found[int(pid)] = words
    return found


def soon(true: Callable[[], bool], seconds: float = 10) -> bool:
    """Wait until *true* is."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def short_directory(uid: int = 0) -> Iterator[Path]:
    """A directory of the user *uid* with a short path, in memory if may be; gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="ue", dir=next(filter(os.path.isdir, _SHORT))))
    os.chown(path, uid, uid)
    try:
        yield path
    finally:
        for entry in reversed(mount_table()):
            if entry.target.startswith(os.fsencode(path) + b"/"):
                umount(entry.target, MNT_DETACH)
        shutil.rmtree(path)


def mount_program(
    directory: Path,
    python: str = sys.executable,
    path: Sequence[str] = (),
    name: str = "unionfs",
) -> str:
    """Make our command an executable file in *directory*, as ``make install`` would; return it."""
    file = directory / name
    file.write_text(
        f"#!{python}\nimport sys\nsys.path[:0] = {[*path] or [str(REPO)]!r}\n"
        "from unionfs.cli.main import entry\nentry()\n"
    )
    file.chmod(0o755)
    return str(file)
