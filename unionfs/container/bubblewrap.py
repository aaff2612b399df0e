"""A runtime configuration as bubblewrap's arguments.

bubblewrap has no configuration file. What it cannot do is refused by ``runtime`` (another user
than root) or covered otherwise (device rules: its /dev is nodev apart from the devices bound into
it). Meant for ordinary users, it leaves /proc/sys writable to root: the read-only paths are bound
from the host's /proc, whose part of them is the same in every PID namespace.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from unionfs.container.rootfile import open_root, stat_inside
from unionfs.errors import RefusedError

_OWN_MOUNTS = ("/proc", "/dev")  # bubblewrap makes these itself, with all that belongs in them
_TIOCSTI = "/proc/sys/dev/tty/legacy_tiocsti"


class LinkedMountPointError(RefusedError):
    """A directory that must be mounted over is a symbolic link in the image."""


def bubblewrap_words(spec: Mapping[str, Any], status_fd: int) -> list[str]:
    """Return bubblewrap's arguments for *spec*; it reports to the descriptor *status_fd*.

    Raises LinkedMountPointError where the image has a link in the place of a mount point:
    bubblewrap would follow it while it still sees the host.
    """
    process = spec["process"]
    return [
        *("--json-status-fd", str(status_fd), "--die-with-parent", "--as-pid-1"),
        *(() if _may_keep_terminal(process["terminal"]) else ("--new-session",)),
        *_namespaces(spec),
        *_filesystem(spec),
        *_rights(process),
        "--clearenv",
        *_environment(process["env"]),
        *("--chdir", process["cwd"]),
        "--",
        *process["args"],
    ]


def _namespaces(spec: Mapping[str, Any]) -> list[str]:
    words = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", spec["hostname"]]
    kinds = {entry["type"] for entry in spec["linux"]["namespaces"]}
    if "network" in kinds:
        words.append("--unshare-net")
    if "user" in kinds:
        words += ["--unshare-user", "--uid", "0", "--gid", "0"]
    return words


def _filesystem(spec: Mapping[str, Any]) -> list[str]:
    root = spec["root"]["path"]
    binds = [mount for mount in spec["mounts"] if mount["type"] == "bind"]
    _refuse_links(root, ["/proc", "/dev", "/sys", *(mount["destination"] for mount in binds)])
    words = ["--ro-bind" if spec["root"]["readonly"] else "--bind", root, "/"]
    words += ["--proc", "/proc", "--dev", "/dev", "--mqueue", "/dev/mqueue"]
    words += ["--ro-bind", "/sys", "/sys"]
    for mount in binds:
        words += ["--ro-bind", mount["source"], mount["destination"]]
    for path in spec["linux"]["readonlyPaths"]:
        words += ["--ro-bind-try", path, path]
    for path in spec["linux"]["maskedPaths"]:
        words += _mask(path)
    return words


def _refuse_links(root: str, paths: list[str]) -> None:
    root_fd = open_root(root)
    try:
        for path in paths:
            inside = os.fsencode(path)
            if stat_inside(root_fd, inside, links=False) is not None:
                continue
            # Missing is fine, bubblewrap makes it; a link is not, dangling or otherwise.
            if _has_link(root_fd, inside.strip(b"/").split(b"/")):
                raise LinkedMountPointError(f"{path} is a symbolic link in the container")
    finally:
        os.close(root_fd)


def _has_link(root_fd: int, names: list[bytes]) -> bool:
    """Return whether the first of *names* that is not a plain directory or file is a link."""
    for depth in range(1, len(names) + 1):
        if stat_inside(root_fd, b"/".join(names[:depth]), links=False) is None:
            parent = b"/".join(names[: depth - 1])
            return _is_link(root_fd, parent, names[depth - 1])
    return False


def _is_link(root_fd: int, parent: bytes, name: bytes) -> bool:
    at = os.open(parent or b".", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root_fd)
    try:
        return os.path.lexists(b"/proc/self/fd/%d/%s" % (at, name))
    finally:
        os.close(at)


def _mask(path: str) -> list[str]:
    """Return the words that hide *path* of the host's /proc or /sys; none where it has none."""
    if os.path.isdir(path):
        return ["--tmpfs", path, "--remount-ro", path]
    return ["--ro-bind", "/dev/null", path] if os.path.exists(path) else []


def _rights(process: Mapping[str, Any]) -> list[str]:
    words = ["--cap-drop", "ALL"]
    for capability in process["capabilities"]["effective"]:
        words += ["--cap-add", capability]
    return words


def _environment(entries: list[str]) -> list[str]:
    words = []
    for entry in entries:
        name, _, value = entry.partition("=")
        words += ["--setenv", name, value]
    return words


def _may_keep_terminal(terminal: bool) -> bool:
    """Return whether the process may share our terminal without being able to type on it.

    With the TIOCSTI ioctl it could feed our shell commands (CVE-2017-5226); Linux 6.2 and later
    can have it off.
    """
    if not terminal:
        return False
    try:
        with open(_TIOCSTI) as setting:
            return setting.read().strip() == "0"
    except OSError:
        return False
