"""An OCI runtime configuration (runtime-spec 1.0, config.md and config-linux.md) for a container.

Pure: from what is known about the container to a document. Defaults (capabilities, mounts, masked
and read-only paths) are docker's (moby ``oci/defaults.go``). No rlimits: raising one takes
CAP_SYS_RESOURCE, which root need not have. ``runtime.bubblewrap`` reads the same document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unionfs.container.passwd import User
from unionfs.container.process import DEFAULT_PATH, Process
from unionfs.syscalls.idmap import IdMap

_TTY_GROUP = 5  # in Debian, Fedora and whoever follows them
SPEC_VERSION = "1.0.2"
CAPABILITIES = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_DEVICES = (  # moby oci/devices_linux.go: null, zero, full, random, urandom, tty, pts, ptmx
    {"allow": False, "access": "rwm"},
    *(
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2))
    ),
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the machine and the command add to the image's process.

    ``rootless`` is the caller's (uid, gid) to map root to, or None for a privileged caller; ``ids``
    are those that a user namespace has names for in which the caller is root already, else None;
    ``private_network`` gives a network without interfaces, else the host's is used; ``binds`` are
    (source, destination) pairs of read-only bind mounts.
    """

    root: str
    hostname: str
    terminal: bool = False
    read_only: bool = False
    private_network: bool = True
    rootless: tuple[int, int] | None = None
    ids: IdMap | None = None
    binds: tuple[tuple[str, str], ...] = field(default=())

    @property
    def confined(self) -> bool:
        """Whether root in the container is not the machine's."""
        return self.rootless is not None or self.ids is not None

    @property
    def has_tty_group(self) -> bool:
        """Whether terminals can be given to the group tty."""
        if self.ids is None:
            return self.rootless is None
        return any(_TTY_GROUP in groups for groups in self.ids.groups)


def environment(process: Process, user: User, around: Surroundings) -> dict[str, str]:
    """Return the process's environment: docker's defaults under what the image and user say."""
    defaults = {"PATH": DEFAULT_PATH, "HOSTNAME": around.hostname, "HOME": user.home}
    if around.terminal:
        defaults["TERM"] = "xterm"
    return {**defaults, **process.env}


def runtime_spec(process: Process, user: User, around: Surroundings) -> dict[str, Any]:
    """Return the config.json document that runs *process* as *user* in *around*."""
    return {
        "ociVersion": SPEC_VERSION,
        "process": _process(process, user, environment(process, user, around), around.terminal),
        "root": {"path": around.root, "readonly": around.read_only},
        "hostname": around.hostname,
        "mounts": _mounts(around),
        "linux": _linux(around),
    }


def _process(
    process: Process, user: User, env: Mapping[str, str], terminal: bool
) -> dict[str, Any]:
    held = list(CAPABILITIES) if user.uid == 0 else []
    return {
        "terminal": terminal,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "args": list(process.args) or ["sh"],
        "env": [f"{name}={value}" for name, value in env.items()],
        "cwd": process.cwd,
        "capabilities": {
            "bounding": list(CAPABILITIES),
            "effective": held,
            "permitted": held,
            "inheritable": [],
            "ambient": [],
        },
        "noNewPrivileges": False,
    }


def _mounts(around: Surroundings) -> list[dict[str, Any]]:
    private = ["nosuid", "noexec", "nodev"]
    # Without privileges there is no group tty to map, and a sysfs needs a network of one's own.
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    if around.has_tty_group:
        pts.append(f"gid={_TTY_GROUP}")
    mounts = [
        _mount("/proc", "proc", "proc", private),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", "devpts", pts),
        _mount("/dev/shm", "tmpfs", "shm", [*private, "mode=1777", "size=65536k"]),
        _mount("/dev/mqueue", "mqueue", "mqueue", private),
    ]
    if not around.confined or around.private_network:
        mounts.append(_mount("/sys", "sysfs", "sysfs", [*private, "ro"]))
    else:
        mounts.append(_mount("/sys", "none", "/sys", [*private, "ro", "rbind"]))
    for source, destination in around.binds:
        mounts.append(_mount(destination, "bind", source, ["bind", "ro", "nosuid", "nodev"]))
    return mounts


def _mount(destination: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": options}


def _linux(around: Surroundings) -> dict[str, Any]:
    kinds = ["pid", "ipc", "uts", "mount"]
    if around.private_network:
        kinds.append("network")
    linux: dict[str, Any] = {
        "maskedPaths": list(_MASKED),
        "readonlyPaths": list(_READ_ONLY),
    }
    if not around.confined:
        linux["resources"] = {"devices": list(_DEVICES)}
    if around.rootless is not None:
        kinds.append("user")
        uid, gid = around.rootless
        linux["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": 1}]
    linux["namespaces"] = [{"type": kind} for kind in kinds]
    return linux
