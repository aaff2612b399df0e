"""Podman, Buildah and Skopeo from Debian's packages, each with a store and state of its own.

What the engines know they are told by two files, ``containers.conf`` and ``storage.conf``, which
lie with everything else that they write in one directory of the test. Networks, journals and
limits that need more than a small virtual machine has are left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
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
tmp_dir = "{place}/tmp"
conmon_env_vars = ["PATH={path}", "{mark}"]
"""
_STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{place}/storage"
runroot = "{place}/run"
[storage.options.overlay]
mount_program = "{program}"
"""
Done = subprocess.CompletedProcess[str]


class Engine:
    """Engines with their store in *place*, which mount with *program* ("" is the kernel).

    *run* starts a program as whoever the engine is to be, and waits for it.
    """

    def __init__(
        self, place: Path, program: str, run: Callable[..., Done], name: str = "ours"
    ) -> None:
        self.place = place
        self.storage = place / "storage"
        self._run = run
        self._env = {
            "CONTAINERS_CONF": f"{place}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{place}/{name}.conf",
            "TMPDIR": str(place),
        }
        mark = leftovers.mark_this_session().decode()
        text = _CONTAINERS_CONF.format(place=place, path=os.environ["PATH"], mark=mark)
        (place / "containers.conf").write_text(text)
        (place / f"{name}.conf").write_text(_STORAGE_CONF.format(place=place, program=program))

    def run(self, *words: str | Path, status: int = 0, **options: Any) -> Done:
        """Run an engine's command, which ends with *status*."""
        done = self._run(*map(str, words), env=self._env, **options)
        assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
        return done

    def podman(self, *words: str | Path, **options: Any) -> str:
        """Run podman; return what it prints."""
        return self.run("podman", *words, **options).stdout

    def sh(self, name: str, script: str, **options: Any) -> str:
        """Run a shell's *script* in the running container *name*; return what it prints."""
        return self.podman("exec", name, "sh", "-ec", script, **options)

    def inspect(self, *words: str) -> Any:
        """Return what podman knows of one thing."""
        return json.loads(self.podman("inspect", *words))[0]

    def diff(self, *words: str) -> set[str]:
        """Return the changes, each a kind (A, C, D) and a path, without Podman's own."""
        lines = self.podman("diff", *words).splitlines()
        return {line for line in lines if line.split()[1] not in PODMANS_OWN}

    def mounts(self) -> list[bytes]:
        """Return where a union is mounted for this store, in this namespace."""
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


PODMANS_OWN = {"/etc", "/etc/mtab", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv"}


def as_root(*words: str, env: dict[str, str], **options: Any) -> Done:
    """Run a program as ourselves."""
    options = {"capture_output": True, "text": True, "timeout": 100} | options
    return subprocess.run(words, env={**os.environ, **env}, check=False, **options)


def mount_program(directory: Path, python: str = sys.executable, path: Sequence[str] = ()) -> str:
    """Make our command an executable file in *directory*, as ``make install`` would; return it."""
    file = directory / "unionfs"
    file.write_text(
        f"#!{python}\nimport sys\nsys.path[:0] = {[*path] or [str(REPO)]!r}\n"
        "from unionfs.cli.main import entry\nentry()\n"
    )
    file.chmod(0o755)
    return str(file)
