"""Podman's stores: one for each driver that is compared, with nothing of the machine's own in it.

All that Podman writes is in two directories of the store's: images and containers on the disk
of the bench, and what it has while it runs under a short path, since Podman 4.3 waits for twenty
seconds at every start when that has more than 50 characters. Networks, journals and limits that
need more than a small virtual machine has are left out.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time

from scripts.bench.podman.ordinary import Caller
from unionfs.syscalls.mount import MNT_DETACH, mount_table, umount

_SETTLED = 60.0  # seconds
_REMOVE = 'umount "$0/overlay" 2>/dev/null; rm -rf "$0"'  # which Podman binds to itself
_CONTAINERS_CONF = """
[containers]
netns = "none"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
[network]
network_backend = "cni"
network_config_dir = "{place}/networks"
[engine]
runtime = "{runtime}"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
tmp_dir = "{short}/tmp"
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


class PodmanError(Exception):
    """A command of Podman's failed; the message has the command and what it said."""


class Store:
    """Images and containers of *caller*, mounted by *program* ("" is the kernel).

    They are in the directory *name* of his place. Methods raise PodmanError and OSError. ``close``
    removes all of it.
    """

    def __init__(self, caller: Caller, name: str, program: str, runtime: str) -> None:
        self._caller = caller
        self._place = place = os.path.join(caller.place, name)
        self._short = caller.short_directory()
        os.mkdir(place)
        caller.give(place)
        paths = {"place": place, "short": self._short, "program": program, "runtime": runtime}
        self._env = {"TMPDIR": place, "XDG_RUNTIME_DIR": self._short}
        for name, text in (("CONTAINERS", _CONTAINERS_CONF), ("CONTAINERS_STORAGE", _STORAGE_CONF)):
            path = os.path.join(place, f"{name}.conf")
            with open(path, "x", encoding="utf-8") as file:
                file.write(text.format(**paths))
            self._env[f"{name}_CONF"] = path

    def podman(self, *words: str) -> str:
        """Run podman to its end; return what it prints."""
        # Not pipes: what a container leaves running could keep them open, and us waiting.
        with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
            status = self._caller.run(["podman", *words], said, errors, **self._env)
            said.seek(0)
            errors.seek(0)
            if status:
                last = errors.read().strip()[-500:]
                raise PodmanError(f"podman {words[0]}: status {status}: {last}")
            return said.read()

    def settle(self) -> None:
        """Wait until the processes that serve and tidy up this store have ended.

        They would steal time from the next measurement.
        """
        deadline = time.monotonic() + _SETTLED
        while self._has_processes():
            if time.monotonic() > deadline:
                raise TimeoutError(f"a process of the store {self._place} does not end")
            time.sleep(0.01)

    def close(self) -> None:
        """Remove everything of this store, whatever state it is in."""
        try:
            self.podman("rm", "--all", "--force", "--time", "0")
            self.settle()
            if not self._caller.is_root:
                self._leave_namespaces()
        finally:
            for top in (self._place, self._short):
                _unmount_below(top)
                shutil.rmtree(top)

    def _leave_namespaces(self) -> None:
        """Remove what belongs to subordinate IDs, and end the process that keeps the namespaces."""
        self.podman("rmi", "--all", "--force")
        storage = os.path.join(self._place, "storage")
        self.podman("unshare", "sh", "-c", _REMOVE, storage)
        self.podman("system", "migrate")

    def _has_processes(self) -> bool:
        ours = (os.fsencode(self._place) + b"/", os.fsencode(self._short) + b"/")
        for name in filter(str.isdecimal, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = file.read()
            except OSError:
                continue  # it ended meanwhile
            if any(path in words for path in ours):
                return True
        return False


def _unmount_below(top: str) -> None:
    under = os.fsencode(top) + b"/"
    for entry in reversed([entry for entry in mount_table() if entry.target.startswith(under)]):
        umount(entry.target, MNT_DETACH)
