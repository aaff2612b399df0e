"""The runtime configuration of a mounted container, and the bundle directory that holds it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from unionfs.container.passwd import User, resolve_user
from unionfs.container.process import Overrides, Process, process_of
from unionfs.container.rootfile import open_root
from unionfs.container.session import mounted
from unionfs.container.spec import Surroundings, runtime_spec
from unionfs.errors import ConflictError
from unionfs.store.records import ContainerRecord
from unionfs.store.store import Store
from unionfs.syscalls.publish import write_file

CONFIG = "config.json"


class BundleExistsError(ConflictError):
    """What is there already may be somebody's work: a config.json, or no directory at all."""


def bundle(
    root: str,
    container: ContainerRecord,
    directory: str,
    *,
    terminal: bool,
    note: Callable[[str], None],
) -> str:
    """Write a bundle for *container* into *directory* (made if missing); return config.json's path.

    The container is mounted meanwhile if it is not: the image's ``User`` is looked up in it. Raises
    BundleExistsError, UnionfsError, OSError.
    """
    path = os.path.join(directory, CONFIG)
    if os.path.lexists(directory) and not os.path.isdir(directory):
        raise BundleExistsError(f"{directory} is not a directory")
    if os.path.lexists(path):
        raise BundleExistsError(f"{path} is there already")
    with Store.open(root) as store:
        process = process_of(store.images.get(container.image_id).config, Overrides())
    with mounted(root, container, note) as mount:
        around = Surroundings(
            root=mount.shown,
            hostname=container.short,
            terminal=terminal,
            read_only=mount.read_only,
            rootless=caller_without_privilege(),
        )
        spec = runtime_spec(process, user_in(mount.target, process), around)
    os.makedirs(directory, exist_ok=True)
    write_spec(path, spec)
    return path


def user_in(root: bytes, process: Process) -> User:
    """Return who *process* runs as, looked up in the mounted *root*. Raises NotFoundError."""
    root_fd = open_root(root)
    try:
        return resolve_user(root_fd, process.user)
    finally:
        os.close(root_fd)


def caller_without_privilege() -> tuple[int, int] | None:
    """Return our uid and gid if root in the container must be mapped to them; None as root."""
    return None if os.geteuid() == 0 else (os.geteuid(), os.getegid())


def write_spec(path: str, spec: Mapping[str, Any]) -> None:
    """Write *spec* as a config.json. Raises OSError."""
    write_file(path, json.dumps(spec, indent=2).encode() + b"\n", mode=0o644)
